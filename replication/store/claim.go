package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Claim says who holds an exclusive resource of the site, such as a responder.
type Claim struct {
	// Holder is whom it is given to; empty when nobody has it.
	Holder string
	// Epoch rises with every grant and never comes back, also not after a restore:
	// its upper half is the site's incarnation. Whoever acts on the resource
	// refuses orders of an epoch below the last that it saw.
	Epoch uint64
}

// claimNameMax bounds the names of resources and holders, in bytes.
const claimNameMax = 256

// Claim returns who holds a resource as of the last commit.
func (s *Store) Claim(resource string) (Claim, error) {
	if err := s.usage.enter(); err != nil {
		return Claim{}, err
	}
	defer s.usage.leave()
	b, err := s.get(keyClaim(resource))
	if errors.Is(err, ErrNotFound) {
		return Claim{}, nil
	}
	if err != nil {
		return Claim{}, err
	}
	d := decoder{b: b}
	c := Claim{Epoch: d.u64()}
	c.Holder = string(d.b)
	if d.bad {
		return c, fmt.Errorf("%w: claim of %q", ErrCorrupt, resource)
	}
	return c, nil
}

// Claim returns who holds a resource as of this Tx.
func (t *Tx) Claim(resource string) (Claim, error) {
	if c, ok := t.claims[resource]; ok {
		return c, nil
	}
	return t.s.Claim(resource)
}

// Grant gives a resource to a holder in a new epoch. A holder that has it
// already keeps its epoch. It rejects with [ErrHeld] when somebody else has it,
// unless force takes it away, and with [ErrBadClaim].
func (t *Tx) Grant(resource, holder string, force bool) (Claim, error) {
	if holder == "" || len(holder) > claimNameMax || resource == "" || len(resource) > claimNameMax {
		return Claim{}, fmt.Errorf("%w: resource of %d bytes, holder of %d: want 1 to %d", ErrBadClaim, len(resource), len(holder), claimNameMax)
	}
	now, err := t.Claim(resource)
	if err != nil {
		return Claim{}, err
	}
	switch {
	case now.Holder == holder && !force:
		return now, nil
	case now.Holder != "" && !force:
		return now, fmt.Errorf("%w: %s is held by %s in epoch %d", ErrHeld, resource, now.Holder, now.Epoch)
	}
	return t.setClaim(resource, Claim{holder, max(now.Epoch, uint64(t.Incarnation())<<32) + 1})
}

// Release gives a resource back. It rejects with [ErrFenced] when the epoch is
// not that of the present grant.
func (t *Tx) Release(resource string, epoch uint64) (Claim, error) {
	now, err := t.Claim(resource)
	if err != nil {
		return Claim{}, err
	}
	if now.Epoch != epoch {
		return now, fmt.Errorf("%w: %s is in epoch %d, not %d", ErrFenced, resource, now.Epoch, epoch)
	}
	return t.setClaim(resource, Claim{"", epoch})
}

func (t *Tx) setClaim(resource string, c Claim) (Claim, error) {
	t.claims[resource] = c
	return c, t.batch.Set(keyClaim(resource), append(binary.BigEndian.AppendUint64(nil, c.Epoch), c.Holder...), nil)
}
