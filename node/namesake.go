package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// namesakePage is how many names are read at once of the index of those that clients gave.
const namesakePage = 4096

// noteNamed notes an event whose name a client gave: another may have it. What does not
// fit is found by a look at all names.
func (m *merging) noteNamed(k store.DocKey) {
	select {
	case m.named <- k:
	default:
		m.allNamed.Store(true)
	}
}

// mergeNamesakes brings together the events that got one name at several sites, as when
// an app that lost its township sent its report to the next one. Those of one content
// are one event; those of another content are told apart by their full names, and the
// operator is told. Each is looked at once more with the next change, since it may not
// be listed yet.
func (n *Node) mergeNamesakes(ctx context.Context) error {
	m := &n.merging
	names := map[string]bool{}
	if m.allNamed.Swap(false) {
		if err := n.sharedNames(names); err != nil {
			return err
		}
	}
	for _, k := range m.namedAgain {
		names[k.Doc.Name()] = true
	}
	m.namedAgain = nil
	for waits := true; waits; {
		select {
		case k := <-m.named:
			names[k.Doc.Name()] = true
			m.namedAgain = append(m.namedAgain, k)
		default:
			waits = false
		}
	}
	for name := range names {
		if err := n.mergeNamed(ctx, name); err != nil {
			return fmt.Errorf("events named %s: %w", name, err)
		}
	}
	return nil
}

// sharedNames adds the names that several events have.
func (n *Node) sharedNames(names map[string]bool) error {
	q := store.IndexQuery{Name: event.IndexNamed, Limit: namesakePage}
	for before := ""; ; {
		hits, err := n.group.Store().Index(q)
		if err != nil {
			return err
		}
		for _, h := range hits {
			if h.Value == before {
				names[before] = true
			}
			before, q.After = h.Value, &h
		}
		if len(hits) < q.Limit {
			return nil
		}
	}
}

// namesakes are the events here that have a name which a client gave, the earliest first.
func (n *Node) namesakes(name string) ([]knotted, error) {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: event.IndexNamed, Prefix: name})
	if err != nil || len(hits) < 2 {
		return nil, err
	}
	var all []knotted
	for _, h := range hits {
		v, err := n.eventView(h.Key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, knotted{h.Key, v})
	}
	slices.SortFunc(all, func(a, b knotted) int { return event.Earlier(a.Self(), b.Self()) })
	return all, nil
}

// shown is an event's view as it is listed: with its full name where the bare one means
// several, or another.
func (n *Node) shown(k store.DocKey, view []byte) json.RawMessage {
	if k.Doc.Kind() != event.Kind || !bytes.Contains(view, []byte(`"named":true`)) {
		return view
	}
	keys, err := n.eventKeys(k.Doc)
	if err == nil && keys[0] == k || err != nil && !errors.Is(err, ErrAmbiguous) {
		return view
	}
	name, err := json.Marshal(k.String())
	if err != nil {
		return view
	}
	return slices.Concat([]byte(`{"full_name":`), name, []byte(","), view[1:])
}

// mergeNamed merges those events of a name that are of one content, where this is the
// nearest site above both.
func (n *Node) mergeNamed(ctx context.Context, name string) error {
	all, err := n.namesakes(name)
	if err != nil {
		return err
	}
	for i, late := range all {
		for _, early := range all[:i] {
			if commonAncestor(n.Topology(), early.key.Stream.Site, late.key.Stream.Site) != n.creds.ID.Site {
				continue
			}
			same, err := n.mergeTwo(ctx, early, late)
			if err != nil && !n.passable(late.key, err) {
				return err
			}
			if same {
				break // with the earliest
			}
		}
	}
	return nil
}

// mergeTwo merges two events of one name if they are one, and reports whether they are.
func (n *Node) mergeTwo(ctx context.Context, early, late knotted) (same bool, err error) {
	a, err := n.reportOf(early.key)
	if err != nil {
		return false, err
	}
	b, err := n.reportOf(late.key)
	if err != nil {
		return false, err
	}
	if !event.SameButTime(a, b) {
		n.alarms.once(alarmNamesake, early.key.Doc.Name(), fmt.Sprintf("two reports have one identifier, as when a device makes it twice: %s and %s: "+
			"they are two events, and told apart by these full names; tiermesh event merge makes them one", early.key, late.key))
		return false, nil
	}
	if _, ever := late.MergedWith(tiers.DocID(early.key.String())); ever || early.State == event.StateVoid || late.State == event.StateVoid {
		return true, nil // they are merged, or somebody took them apart
	}
	_, err = n.MergeEvents(ctx, "", tiers.DocID(early.key.String()), tiers.DocID(late.key.String()), "one report, taken in at two sites", "")
	return true, err
}
