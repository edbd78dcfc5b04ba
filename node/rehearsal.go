package node

import (
	"errors"
	"fmt"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// rehearsal is a batch that is only looked at: what would have been written by now.
type rehearsal struct {
	n     *Node
	keys  map[string]bool
	named map[tiers.DocID]event.Report
}

func (n *Node) rehearse() *rehearsal {
	return &rehearsal{n: n, keys: map[string]bool{}, named: map[tiers.DocID]event.Report{}}
}

// takeIn says what [Node.TakeIn] would make of a report, after those before it, and
// writes nothing.
func (p *rehearsal) takeIn(in Incoming) (TakenIn, error) {
	n := p.n
	if done, there, err := n.placedBefore(in); there || err != nil {
		return done, err
	}
	_, err := n.assess(&in)
	k, v, held, lookErr := n.heldBefore(in)
	if lookErr != nil {
		return TakenIn{}, lookErr
	}
	if held && v.State == event.QuarantineReleased {
		return TakenIn{Written: n.releasedAs(v), Again: true}, nil
	}
	if held && v.State == event.QuarantineDiscarded {
		return TakenIn{Written: replication.Written{Stream: k.Stream, Doc: k.Doc}, Again: true, Note: discardedNote(v)}, nil
	}
	if err == nil {
		var done TakenIn
		if done, err = p.event(in); err == nil {
			return done, nil
		}
	}
	if !errors.Is(err, event.ErrInvalid) || !in.Quarantine {
		return TakenIn{}, err
	}
	if !held {
		if _, herr := n.heldOf(in, err); herr != nil {
			return TakenIn{}, herr
		}
	}
	out := TakenIn{Held: err.Error(), Field: event.FieldOf(err)}
	if held {
		out.Written = replication.Written{Stream: k.Stream, Doc: k.Doc}
	}
	return out, nil
}

// event is what would become of a good report.
func (p *rehearsal) event(in Incoming) (TakenIn, error) {
	n := p.n
	if in.ID == "" {
		done, err := n.group.Earlier(in.Key)
		if err != nil {
			return TakenIn{}, err
		}
		again := p.keys[in.Key]
		p.keys[in.Key] = true
		if len(done) == 1 && done[0].Doc.Kind() == event.Kind {
			return TakenIn{Written: done[0], Again: true}, nil
		}
		return TakenIn{Again: again}, nil
	}
	id, err := event.ClientID(in.ID)
	if err != nil {
		return TakenIn{}, err
	}
	k, there, err := n.ownEventNamed(id)
	if err != nil {
		return TakenIn{}, err
	}
	if there {
		return n.named(k, in.Report)
	}
	before, there := p.named[id]
	if there && !event.Same(before, in.Report) {
		return TakenIn{}, event.OtherContent(id)
	}
	p.named[id] = in.Report
	return TakenIn{Again: there}, nil
}

func discardedNote(v event.QuarantineView) string {
	return fmt.Sprintf("it was discarded: %s", v.Reason())
}
