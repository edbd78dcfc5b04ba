package command

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The document kinds of orders; also the names of their indexes by time of issue.
const (
	// KindOrder is an order as it was issued, in its issuer's command stream.
	KindOrder = "order"
	// KindReceipt is an order at one of its targets, in the target's command stream.
	KindReceipt = "receipt"
)

// Bounds of an order.
const (
	titleBytesMax = 512
	textBytesMax  = 4096
	nameBytesMax  = 128
	evidenceMax   = 16
	deadlineMax   = 10 * 365 * 24 * time.Hour
)

// Brief is what a target needs to know of an order; it never changes.
type Brief struct {
	Order tiers.DocID `json:"order"`
	Title string      `json:"title"`
	Text  string      `json:"text,omitempty"`
	// Issuer is the site that gives the order, Who the person there.
	Issuer     tiers.SiteID `json:"issuer"`
	IssuerTier tiers.Tier   `json:"issuer_tier,omitempty"`
	Who        string       `json:"who,omitempty"`
	// To is whom it was addressed to; see [Select].
	To string `json:"to"`
	// IssuedAtMS and DeadlineMS are Unix milliseconds; 0 is no deadline.
	IssuedAtMS int64 `json:"issued_at_ms"`
	DeadlineMS int64 `json:"deadline_ms,omitempty"`
}

// Validate checks an order against the present time. The error wraps [ErrInvalid].
func (b Brief) Validate(now time.Time) error {
	for _, f := range []struct {
		name, value string
		max         int
		required    bool
	}{{"title", b.Title, titleBytesMax, true}, {"text", b.Text, textBytesMax, false}, {"who", b.Who, nameBytesMax, false}} {
		if f.required && tiers.Blank(f.value) {
			return fmt.Errorf("%w: %s is empty: an order says what is to be done", ErrInvalid, f.name)
		}
		if err := checkText(f.name, f.value, f.max); err != nil {
			return err
		}
	}
	if b.DeadlineMS != 0 && (b.DeadlineMS <= now.UnixMilli() || b.DeadlineMS > now.Add(deadlineMax).UnixMilli()) {
		return fmt.Errorf("%w: deadline %s: want a time from now to ten years from now", ErrInvalid, time.UnixMilli(b.DeadlineMS).UTC().Format(time.RFC3339))
	}
	return nil
}

// Order is an order as it was issued.
type Order struct {
	Brief
	// Targets are the sites that it is for, in code order, as the topology of version
	// Topology was.
	Targets  []tiers.SiteID `json:"targets"`
	Topology uint64         `json:"topology"`
}

// Select returns the sites below an issuer that an address means, in code order:
//
//	500101001              one site
//	tier:township          all sites of a tier
//	area:500101            a site and all below it
//	500101001,500102       a list of these
//
// The error wraps [ErrInvalid] and says what is allowed.
func Select(t *tiers.Topology, issuer tiers.SiteID, to string) ([]tiers.SiteID, error) {
	if to == "" || len(to) > textBytesMax {
		return nil, fmt.Errorf("%w: to of %d bytes: want a site, tier:township, area:SITE, or a list with commas", ErrInvalid, len(to))
	}
	var out []tiers.SiteID
	for _, part := range strings.Split(to, ",") {
		found, err := selectPart(t, issuer, strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func selectPart(t *tiers.Topology, issuer tiers.SiteID, part string) ([]tiers.SiteID, error) {
	name, ofTier := strings.CutPrefix(part, "tier:")
	area, ofArea := strings.CutPrefix(part, "area:")
	var tier tiers.Tier
	switch {
	case ofTier:
		if err := tier.UnmarshalText([]byte(name)); err != nil {
			return nil, fmt.Errorf("%w: to %.64q: want tier:district or tier:township", ErrInvalid, part)
		}
	case ofArea:
		if s, ok := t.Site(tiers.SiteID(area)); !ok || s.Retired || s.ID != issuer && !t.IsAncestor(issuer, s.ID) {
			return nil, fmt.Errorf("%w: to %.64q: want area:SITE with %s or a site below it", ErrInvalid, part, issuer)
		}
	default:
		s, ok := t.Site(tiers.SiteID(part))
		if !ok || s.Retired || !t.IsAncestor(issuer, s.ID) {
			return nil, fmt.Errorf("%w: to %.64q: want a site below %s, tier:township, area:SITE, or a list with commas", ErrInvalid, part, issuer)
		}
		return []tiers.SiteID{s.ID}, nil
	}
	var out []tiers.SiteID
	for _, s := range t.Sites() {
		in := ofTier && s.Tier == tier || ofArea && (string(s.ID) == area || t.IsAncestor(tiers.SiteID(area), s.ID))
		if in && !s.Retired && t.IsAncestor(issuer, s.ID) {
			out = append(out, s.ID)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: to %.64q: no such site is below %s", ErrInvalid, part, issuer)
	}
	return out, nil
}

// OrderID returns the identifier of the order that a site issues under an
// idempotency key: a UUID (RFC 9562, version 8).
func OrderID(issuer tiers.SiteID, key string) tiers.DocID {
	return tiers.NewDocID(KindOrder, uuid("tiermesh order v1", string(issuer), key))
}

// ReceiptID returns the identifier of an order at a target.
func ReceiptID(order tiers.DocID, target tiers.SiteID) tiers.DocID {
	return tiers.NewDocID(KindReceipt, order.Name()+"."+string(target))
}

// uuid makes a UUID of version 8 of texts.
func uuid(scheme string, parts ...string) string {
	sum := sha256.Sum256([]byte(scheme + "\x00" + strings.Join(parts, "\x00")))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	x := hex.EncodeToString(u)
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}

// The keys of this package's documents.
const (
	keyHead  = "head"
	keySteps = "steps"
)

// OrderOps returns the operations of an order's first change. The error wraps
// [ErrInvalid].
func OrderOps(o Order) ([]crdt.Op, error) { return createOps(o) }

// ReceiptOps returns the operations of a receipt's first change. The error wraps
// [ErrInvalid].
func ReceiptOps(b Brief) ([]crdt.Op, error) { return createOps(b) }
