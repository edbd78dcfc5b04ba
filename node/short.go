package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// candidatesMax is how many documents a refused short identifier is told apart into.
const candidatesMax = 8

// Resolve implements [api.Backend].
func (b backend) Resolve(_ context.Context, kind, text string) (tiers.DocID, error) {
	id, err := b.n.resolve(kind, text)
	return id, translate(err)
}

// resolve returns the identifier of a kind that a text names: in full, or by its last
// characters, of which [api.ShortMin] have to be given. What several documents end
// in is refused with their names. The error wraps [store.ErrNotFound], [ErrAmbiguous]
// or [tiers.ErrInvalidID].
func (n *Node) resolve(kind, text string) (tiers.DocID, error) {
	id := tiers.OfKind(kind, text)
	if id.Local().Kind() != kind {
		return "", fmt.Errorf("%w: %.96q: want %s:…", tiers.ErrInvalidID, text, kind)
	}
	keys, err := n.keysOf(id)
	if err != nil || len(keys) > 0 {
		return id, err
	}
	if _, _, full, _ := id.Split(); full || len(id.Local().Name()) < api.ShortMin {
		return "", fmt.Errorf("%w: this site holds no %s", store.ErrNotFound, id)
	}
	tail := id.Name()
	keys, all, err := n.group.Store().Ending(tail, []string{kind}, candidatesMax)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, k := range keys {
		if !slices.Contains(ids, string(k.Doc)) {
			ids = append(ids, string(k.Doc))
		}
	}
	switch {
	case len(ids) == 1 && all:
		return tiers.DocID(ids[0]), nil
	case len(ids) == 0 && all:
		return "", fmt.Errorf("%w: this site holds no %s whose id is, or ends in, %s", store.ErrNotFound, kind, tail)
	}
	more := ""
	if !all {
		more = ", and more"
	}
	return "", fmt.Errorf("%w: %s: give more of its last digits: %s%s", ErrAmbiguous, tail, strings.Join(ids, ", "), more)
}
