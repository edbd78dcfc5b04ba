package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
)

// Organ (机构) is an organ with its mandate (职责).
type Organ struct {
	Code, Name string
	// Tiers are those at which it acts, Types the beginnings of the codes of event
	// types that it handles, and Roles what it may be: lead, co or verify. Each is all
	// when it is empty.
	Tiers, Types, Roles []string
	Retired             bool
}

// OrganOf reads an organ from its entry.
func OrganOf(f Fields) Organ {
	return Organ{
		Code: f["code"], Name: f["name"], Tiers: strings.Fields(f["tiers"]), Types: strings.Fields(f["types"]),
		Roles: strings.Fields(f["roles"]), Retired: f[Retired] == "true",
	}
}

// MayHandle says why an organ may not have a role in handling events of a type at a
// tier; nil when it may. An empty role or type, or tier 0, is not looked at. The
// error wraps [ErrInvalid].
func MayHandle(o Organ, role, typ string, tier tiers.Tier) error {
	return o.may(role, tier, typ, func(prefix string) bool { return strings.HasPrefix(typ, prefix) })
}

// MayHandleSome is [MayHandle] for some of the types whose codes begin with a
// prefix, at one of the tiers: what a rule asks for.
func MayHandleSome(o Organ, role, prefix string, some ...tiers.Tier) error {
	var err error
	for _, t := range some {
		err = o.may(role, t, prefix, func(p string) bool { return strings.HasPrefix(p, prefix) || strings.HasPrefix(prefix, p) })
		if err == nil {
			return nil
		}
	}
	return err
}

func (o Organ) may(role string, tier tiers.Tier, typ string, handles func(prefix string) bool) error {
	switch {
	case o.Retired:
		return fmt.Errorf("%w: organ %s is retired", ErrInvalid, o.Code)
	case role != "" && len(o.Roles) > 0 && !slices.Contains(o.Roles, role):
		return fmt.Errorf("%w: organ %s has no mandate as %s: it may be %s", ErrInvalid, o.Code, role, strings.Join(o.Roles, ", "))
	case tier != 0 && len(o.Tiers) > 0 && !slices.Contains(o.Tiers, tier.String()):
		return fmt.Errorf("%w: organ %s has no mandate at tier %s: it acts at %s", ErrInvalid, o.Code, tier, strings.Join(o.Tiers, ", "))
	case typ != "" && len(o.Types) > 0 && !slices.ContainsFunc(o.Types, handles):
		return fmt.Errorf("%w: organ %s has no mandate for type %s: it handles those that begin with %s", ErrInvalid, o.Code, typ, strings.Join(o.Types, ", "))
	}
	return nil
}
