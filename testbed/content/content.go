package content

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// Catalog is what a city publishes: real boards and event types, the default
// tracks, and one dispatch rule a category with a catch-all.
func Catalog() ([]node.Entry, error) {
	var out []node.Entry
	var failed error
	add := func(kind, code string, ops []crdt.Op, err error) {
		out = append(out, node.Entry{Doc: tiers.NewDocID(kind, code), Ops: ops})
		failed = errors.Join(failed, err)
	}
	for _, b := range track.DefaultBoards() {
		ops, err := track.BoardOps(b)
		add("board", b.Code, ops, err)
	}
	for _, t := range track.DefaultTracks() {
		ops, err := track.Ops(t)
		add("track", t.Code, ops, err)
	}
	types, err := data.EventTypes()
	failed = errors.Join(failed, err)
	for _, t := range types {
		e, err := typeEntry(t)
		out, failed = append(out, e), errors.Join(failed, err)
	}
	for _, r := range dispatch.DefaultRules() {
		ops, err := dispatch.RuleOps(r)
		add("rule", r.Code, ops, err)
	}
	return out, failed
}

func typeEntry(t data.EventType) (node.Entry, error) {
	ops, err := catalog.EventTypeOps(catalog.EventType{Code: t.Code, Category: t.Category, Name: t.Name})
	return node.Entry{Doc: tiers.NewDocID(catalog.KindEventType, t.Code), Ops: ops}, err
}

// Types are the entries of the types of reports that [Catalog] has none of, each once.
func Types(reports []event.Report) (out []node.Entry, err error) {
	known := map[string]bool{}
	types, err := data.EventTypes()
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		known[t.Code] = true
	}
	for _, r := range reports {
		if known[r.Type] {
			continue
		}
		known[r.Type] = true
		e, err := typeEntry(data.EventType{Code: r.Type, Category: data.TypeCategory(r.Title), Name: r.Title})
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Report makes an event's report from a service request, under a key that the
// event keeps.
func Report(key string, r data.Request) event.Report {
	code := data.TypeCode(r.Type)
	out := event.Report{
		SourceKey: key, Type: code, Title: r.Type, Text: r.Descriptor, Place: r.Place,
		Priority: priority(code), Reporter: r.Agency, Channel: r.Channel, ReportedAtMS: r.Created.UnixMilli(),
	}
	if r.HasPoint {
		out.Lat, out.Lon = &r.Lat, &r.Lon
	}
	return out
}

// priority makes about one event in eight urgent, by its type.
func priority(code string) int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, code)
	if h.Sum32()%8 == 0 {
		return 2
	}
	return 3
}

// Requests returns the good rows of the built-in file, in its order.
func Requests() ([]data.Request, error) {
	rows := data.Requests(data.NYC311())
	var out []data.Request
	for {
		r, err := rows.Next()
		var bad *data.RowError
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case errors.As(err, &bad):
		case err != nil:
			return nil, fmt.Errorf("built-in requests: %w", err)
		default:
			out = append(out, r)
		}
	}
}
