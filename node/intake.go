package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// Incoming is something that was reported.
type Incoming struct {
	// Key is the idempotency key.
	Key string
	event.Item
	// Origin is its place in a batch; the zero value for none.
	Origin event.Origin
	// Place is its place in the file whose bytes the batch's key follows from; empty for
	// none. With one, what came before from this place is this, whatever it says now.
	Place string
	// byContent is the key that builds before gave to one with a place.
	byContent string
	// AtMS is when it came, in Unix milliseconds; 0 for now.
	AtMS int64
	// Quarantine keeps what is no event; without it only an unknown type is kept,
	// and everything else is refused.
	Quarantine bool
}

// TakenIn is where a report stands.
type TakenIn struct {
	replication.Written
	// Again says that the report was taken in before, under this key or identifier.
	Again bool
	// Held is why it stands in quarantine, Field which field that is about; empty for
	// an event.
	Held, Field string
	// Note says more of a report that was taken in before; empty for nothing.
	Note string
}

// Report takes in one event at this site, durably, and returns where it stands. A
// report with a key that was used before returns the first one's place. One whose
// type no catalog here has is kept in quarantine: what is returned is the document
// there. The error wraps event's validation errors, or the write outcomes of package
// replication.
func (n *Node) Report(ctx context.Context, key string, r event.Report) (replication.Written, error) {
	done, err := n.TakeIn(ctx, Incoming{Key: key, Item: event.Item{Report: r}})
	return done.Written, err
}

// TakeIn takes in what was reported, durably: as an event, or in quarantine. With an
// identifier of the client's, that takes the key's place: the same report again is
// the first one, another report with it is refused, or kept in quarantine. An event
// that came from the same place of a file is this one. What is held
// already, under this key or of this origin, is tried again: it becomes an event now,
// or stays the one that is held. The error is as [Node.Report]'s.
func (n *Node) TakeIn(ctx context.Context, in Incoming) (TakenIn, error) {
	if done, there, err := n.placedBefore(in); there || err != nil {
		return done, err
	}
	r, err := n.assess(&in)
	k, v, held, lookErr := n.heldBefore(in)
	if lookErr != nil {
		return TakenIn{}, lookErr
	}
	if held {
		return n.takeInAgain(ctx, in, r, err, k, v)
	}
	var done TakenIn
	if err == nil {
		done, err = n.takeIn(ctx, in, r)
	}
	if err == nil || !in.Quarantine || !errors.Is(err, event.ErrInvalid) {
		return done, err
	}
	return n.hold(ctx, in, err)
}

// placedBefore finds the event that an earlier import made of a place in a file.
func (n *Node) placedBefore(in Incoming) (TakenIn, bool, error) {
	if in.Place == "" {
		return TakenIn{}, false, nil
	}
	for _, key := range []string{in.Key, in.byContent} {
		done, err := n.group.Earlier(key)
		if err != nil {
			return TakenIn{}, false, err
		}
		if len(done) == 1 && done[0].Doc.Kind() == event.Kind {
			return TakenIn{Written: done[0], Again: true}, true, nil
		}
	}
	return TakenIn{}, false, nil
}

// assess checks what came in and returns the report as it is to be written. What is of
// an unknown type is always kept. The error wraps [event.ErrInvalid].
func (n *Node) assess(in *Incoming) (event.Report, error) {
	if in.Err != nil {
		return in.Report, in.Err
	}
	r, err := n.checked(in.Report, n.opts.Now().UnixMilli())
	if err == nil && !n.knowsType(r.Type) {
		in.Quarantine, err = true, event.UnknownType(r.Type)
	}
	return r, err
}

// checked returns a report as it is written, with its time and what this site doubts
// of it, unless a rule refuses it.
func (n *Node) checked(r event.Report, receivedMS int64) (event.Report, error) {
	if r.ReportedAtMS == 0 {
		r.ReportedAtMS = receivedMS
	}
	r.Doubt = ""
	if err := r.ValidateIn(n.opts.Now(), n.area); err != nil {
		return r, err
	}
	if why := r.Outside(n.area); why != "" && n.cfg.Area.Outside == OutsideRefuse {
		return r, event.OutsideArea(why)
	} else if why != "" {
		r.Doubt = why
	}
	return r, nil
}

// takeIn writes a report that is valid.
func (n *Node) takeIn(ctx context.Context, in Incoming, r event.Report) (TakenIn, error) {
	if in.ID != "" {
		return n.takeInNamed(ctx, in, r)
	}
	ops, err := event.CreateOps(r)
	if err != nil {
		return TakenIn{}, err
	}
	id, err := uuid.NewV7FromReader(n.opts.Random)
	if err != nil {
		return TakenIn{}, fmt.Errorf("new event id: %w", err)
	}
	doc := tiers.NewDocID(event.Kind, id.String())
	return n.create(ctx, in.Key, docKey(n.creds.ID.Site, event.Class(r.Priority), doc), ops)
}

// create writes a new document and tells whether an earlier write had its key.
func (n *Node) create(ctx context.Context, key string, k store.DocKey, ops []crdt.Op) (TakenIn, error) {
	done, err := n.docs.write(ctx, key, Edit{Key: k, Create: true, Ops: ops})
	if err != nil {
		return TakenIn{}, err
	}
	return taken(done[0], k), nil
}

// taken is the outcome of a write of a new document, which an earlier one may have been
// in the place of.
func taken(w replication.Written, k store.DocKey) TakenIn {
	out := TakenIn{Written: w, Again: w.Doc != k.Doc}
	if out.Doc.Kind() == event.KindQuarantine {
		out.Held = "it was taken into quarantine under this key"
	}
	return out
}

// takeInNamed writes a report under the client's identifier.
func (n *Node) takeInNamed(ctx context.Context, in Incoming, r event.Report) (TakenIn, error) {
	id, err := event.ClientID(in.ID)
	if err != nil {
		return TakenIn{}, err
	}
	if k, there, err := n.ownEventNamed(id); err != nil {
		return TakenIn{}, err
	} else if there {
		return n.named(k, in.Report)
	}
	self := n.creds.ID.Site
	ops, err := event.NamedOps(r)
	if err != nil {
		return TakenIn{}, err
	}
	k := docKey(self, event.Class(r.Priority), id)
	// Two reports with one identifier that come at once share the key: one writes,
	// the other is told of it, and compares.
	key := "event-id:" + string(id)
	if in.Place != "" {
		key = in.Key
	}
	earlier, err := n.group.Earlier(key)
	if err != nil {
		return TakenIn{}, err
	}
	done, err := n.docs.write(ctx, key, Edit{Key: k, Create: true, Ops: ops})
	if errors.Is(err, ErrExists) {
		return n.named(k, in.Report)
	}
	if err != nil {
		return TakenIn{}, err
	}
	if done[0].Doc != id { // this place came twice at once
		return taken(done[0], k), nil
	}
	out := TakenIn{Written: done[0], Again: len(earlier) > 0}
	held := docKey(done[0].Stream.Site, done[0].Stream.Class, done[0].Doc)
	same, err := n.sameReport(held, in.Report)
	if err == nil && !same {
		err = event.OtherContent(id)
	}
	return out, err
}

// ownEventNamed finds the event of this site that has a name.
func (n *Node) ownEventNamed(id tiers.DocID) (store.DocKey, bool, error) {
	for _, class := range []tiers.Class{tiers.ClassUrgent, tiers.ClassRoutine} {
		k := docKey(n.creds.ID.Site, class, id)
		if _, err := n.group.Store().Heads(k); err == nil {
			return k, true, nil
		} else if !errors.Is(err, store.ErrNotFound) {
			return k, false, err
		}
	}
	return store.DocKey{}, false, nil
}

// named is the outcome of a report whose identifier a document has.
func (n *Node) named(k store.DocKey, r event.Report) (TakenIn, error) {
	same, err := n.sameReport(k, r)
	if err != nil {
		return TakenIn{}, err
	}
	if !same {
		return TakenIn{}, event.OtherContent(k.Doc)
	}
	out := TakenIn{Written: replication.Written{Stream: k.Stream, Doc: k.Doc}, Again: true}
	if done, err := n.group.Earlier("event-id:" + string(k.Doc)); err == nil && len(done) > 0 {
		out.Written = done[0]
	}
	return out, nil
}

// sameReport reports whether a document is of this report.
func (n *Node) sameReport(k store.DocKey, r event.Report) (bool, error) {
	kept, err := n.reportOf(k)
	return err == nil && event.Same(kept, r), err
}

// reportOf returns an event's report as it came, without corrections.
func (n *Node) reportOf(k store.DocKey) (event.Report, error) {
	history, err := n.group.Store().Changes(k)
	if err != nil {
		return event.Report{}, err
	}
	if len(history.Raw) == 0 {
		return event.Report{}, fmt.Errorf("%w: the report of %s has not come here yet", store.ErrNotFound, k)
	}
	d, err := n.docs.isolated.Read(history.Raw[:1]) // the change that created it
	if err != nil {
		return event.Report{}, fmt.Errorf("read %s: %w", k, err)
	}
	return event.ReportOf(d)
}

// knowsType reports whether a type stands in a catalog of this site or above, or
// there is none of types at all. Only an unknown one costs a look at the catalogs.
func (n *Node) knowsType(code string) bool {
	for _, fresh := range []bool{false, true} {
		types := n.routing.types.Load()
		if types == nil || fresh {
			if _, all, err := n.route(true); err == nil {
				types = &all
			}
		}
		if types == nil || len(*types) == 0 {
			return true
		}
		if _, ok := (*types)[code]; ok {
			return true
		}
	}
	// After a crash the index may lack what had not been flushed; the document says.
	c, _ := catalog.Find(catalog.Types)
	_, there, err := n.holding(c, code)
	return there || err != nil
}

// rawOf is what came, as it is kept.
func rawOf(in Incoming) ([]byte, error) {
	if in.Raw != nil {
		return in.Raw, nil
	}
	return json.Marshal(struct {
		ID string `json:"id,omitempty"`
		event.Report
	}{in.ID, in.Report})
}

// held is what is to be kept of something that is no event, and why.
func (n *Node) heldOf(in Incoming, why error) (event.Held, error) {
	raw, err := rawOf(in)
	if err != nil {
		return event.Held{}, why
	}
	h, err := event.Hold(raw, event.FieldOf(why), why.Error(), cmp.Or(in.AtMS, n.opts.Now().UnixMilli()))
	if err != nil {
		return h, errors.Join(why, err)
	}
	if !in.Origin.None() {
		h.Origin = &in.Origin
	}
	return h, nil
}

// hold keeps what is no event, and why, in quarantine.
func (n *Node) hold(ctx context.Context, in Incoming, why error) (TakenIn, error) {
	h, err := n.heldOf(in, why)
	if err != nil {
		return TakenIn{}, err
	}
	ops, err := event.HoldOps(h)
	if err != nil {
		return TakenIn{}, err
	}
	doc := in.heldID(h.SourceKey)
	if in.Origin.None() {
		id, err := uuid.NewV7FromReader(n.opts.Random)
		if err != nil {
			return TakenIn{}, fmt.Errorf("new id: %w", err)
		}
		doc = tiers.NewDocID(event.KindQuarantine, id.String())
	}
	k := docKey(n.creds.ID.Site, tiers.ClassRoutine, doc)
	done, err := n.create(ctx, holdKey(in, h.Content()), k, ops)
	if errors.Is(err, ErrExists) { // it came twice at once
		done, err = TakenIn{Written: replication.Written{Stream: k.Stream, Doc: doc}, Again: true}, nil
	}
	if err != nil {
		return TakenIn{}, err
	}
	if done.Doc.Kind() == event.KindQuarantine {
		done.Held, done.Field = why.Error(), h.Field
		if p := in.Report.Priority; !done.Again && (p == 1 || p == 2) {
			n.alarms.raise(alarmHeld, "", fmt.Sprintf("urgent reports are in quarantine, the last one is %s: %s", done.Doc, h.Reason))
		}
	}
	return done, nil
}

// holdKey is the idempotency key under which something is held. With an identifier of
// the client's, and no place in a file, its own key is the identifier's.
func holdKey(in Incoming, raw []byte) string {
	if in.ID == "" || in.Place != "" {
		return in.Key
	}
	sum := sha256.Sum256(raw)
	return "held:" + in.ID + ":" + hex.EncodeToString(sum[:16])
}

// heldID is the document of what is held of a place in a batch: one, however often and
// in whichever encoding it comes. Two rows that have source keys are one only if these
// are equal.
func heldID(o event.Origin, sourceKey string) tiers.DocID {
	return heldDoc(fmt.Appendf(nil, "tiermesh held v1\x00%s\x00%d\x00%s", o.Batch, o.Row, sourceKey))
}

// heldID is the document that something is held in: of a place in a file one, too.
func (in Incoming) heldID(sourceKey string) tiers.DocID {
	if in.Place == "" {
		return heldID(in.Origin, sourceKey)
	}
	return heldDoc(fmt.Appendf(nil, "tiermesh held v2\x00%s\x00%s", in.Origin.Batch, in.Place))
}

func heldDoc(of []byte) tiers.DocID {
	sum := sha256.Sum256(of)
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	id, _ := uuid.FromBytes(sum[:16]) // of 16 bytes
	return tiers.NewDocID(event.KindQuarantine, id.String())
}

// itemKey is the idempotency key of a report of a batch: of the batch's key, the
// report's own or its place in the batch, and its bytes, so that a client that
// reuses its keys loses nothing.
func itemKey(batch string, place int, it event.Item) string {
	sum := sha256.Sum256(it.Raw)
	own := it.Report.SourceKey
	if own == "" || len(own) > 128 { // that one is no event either
		own = fmt.Sprintf("#%d", place)
	}
	return batch + ":" + own + ":" + hex.EncodeToString(sum[:8])
}
