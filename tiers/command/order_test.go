package command_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// write is a text of a document and who wrote it.
type write struct {
	author tiers.SiteID
	text   string
}

// source makes a document of a head and entries, in the order given.
func source(stream tiers.StreamID, doc tiers.DocID, head write, entries []write) *crdt.Source {
	s := &crdt.Source{Stream: stream, Doc: doc, Document: &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap}}, Authors: map[crdt.Actor]crdt.Author{}}
	list := crdt.Node{Kind: crdt.NodeList}
	written := func(i int, w write) crdt.Written {
		a := crdt.Actor{1}
		copy(a[1:], w.author)
		s.Authors[a] = crdt.Author{Site: w.author, Incarnation: 1}
		return crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: w.text}, Actor: a, Counter: uint64(i)}
	}
	for i, w := range entries {
		list.Items = append(list.Items, written(i+1, w))
	}
	if head.text != "" {
		s.Document.Root.Fields = append(s.Document.Root.Fields, crdt.Field{Key: "head", Values: []crdt.Written{written(0, head)}})
	}
	s.Document.Root.Fields = append(s.Document.Root.Fields, crdt.Field{Key: "steps", Values: []crdt.Written{{Node: list}}})
	return s
}

func text(t interface{ Fatal(...any) }, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// federation is a city, two districts and three townships.
func federation(t interface{ Fatal(...any) }) *tiers.Topology {
	return topology(t, tiers.Site{ID: "d2t", Tier: tiers.TierTownship, Parent: "d2"})
}

func topology(t interface{ Fatal(...any) }, more ...tiers.Site) *tiers.Topology {
	out, err := tiers.NewTopology(tiers.TopologyDoc{Federation: "x", Version: 3, Sites: append([]tiers.Site{
		{ID: "c", Tier: tiers.TierCity}, {ID: "d1", Tier: tiers.TierDistrict, Parent: "c"}, {ID: "d2", Tier: tiers.TierDistrict, Parent: "c"},
		{ID: "d1a", Tier: tiers.TierTownship, Parent: "d1"}, {ID: "d1b", Tier: tiers.TierTownship, Parent: "d1"},
	}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var allSteps = []string{
	command.StepStored, command.StepDelivered, command.StepAck, command.StepExecute, command.StepRefuse, command.StepReport,
	command.StepCancel, command.StepRemind, command.StepSent, "dance",
}

// whose names the site of these tests that makes a kind of step.
var whose = map[string]tiers.SiteID{
	"stored": "d1", "delivered": "d1a", "ack": "d1a", "execute": "d1a", "refuse": "d1a", "report": "d1a", "cancel": "c", "remind": "c",
}

// firstOf is the earliest time of some kinds of steps, 0 without any.
func firstOf(first map[string]int64, kinds ...string) (ms int64) {
	for kind, at := range first {
		if slices.Contains(kinds, kind) && (ms == 0 || at < ms) {
			ms = at
		}
	}
	return ms
}

// naiveState is the state of a receipt that has some kinds of steps.
func naiveState(is func(kind string) bool) string {
	switch {
	case is("execute"):
		return command.StateExecuted
	case is("refuse"):
		return command.StateRefused
	case is("cancel"):
		return command.StateCancelled
	case is("ack"):
		return command.StateAcknowledged
	case is("delivered"):
		return command.StateDelivered
	}
	return command.StateIssued
}

// TestReceiptFold: any order and any number of copies of the same steps give the same
// view, byte for byte, with the state that a naive reading gives; a step that is not
// its author's counts for nothing.
func TestReceiptFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		deadline := rapid.Int64Range(0, 6).Draw(t, "deadline")
		head := write{"c", text(t, command.Brief{Order: "order:o", Title: "x", Issuer: "c", IssuerTier: tiers.TierCity, IssuedAtMS: 2, DeadlineMS: deadline})}
		var writes []write
		first := map[string]int64{}
		reports := 0
		for range rapid.IntRange(0, 10).Draw(t, "steps") {
			s := command.Step{
				At:   crdt.HybridTime(rapid.IntRange(1, 9).Draw(t, "at")) << 16,
				Kind: rapid.SampledFrom(allSteps).Draw(t, "kind"), Note: rapid.SampledFrom([]string{"", "n"}).Draw(t, "note"),
			}
			s.By = rapid.SampledFrom([]tiers.SiteID{whose[s.Kind], whose[s.Kind], whose[s.Kind], "c", "d1", "d1a"}).Draw(t, "by")
			s.Tier = map[tiers.SiteID]tiers.Tier{"c": 1, "d1": 2, "d1a": 3}[s.By]
			w := write{rapid.SampledFrom([]tiers.SiteID{s.By, s.By, "d1a"}).Draw(t, "author"), text(t, s)}
			if w.author == s.By && whose[s.Kind] == s.By {
				if at, ok := first[s.Kind]; !ok || s.At.Millis() < at {
					first[s.Kind] = s.At.Millis()
				}
				if s.Kind == command.StepReport && !slices.Contains(writes, w) {
					reports++
				}
			}
			writes = append(writes, w)
		}
		fold := func(ws []write) (v command.ReceiptView, out string, index []crdt.IndexEntry) {
			made, err := command.FoldReceipt(source(tiers.StreamID{Site: "d1a", Class: tiers.ClassCommand}, "receipt:o.d1a", head, ws))
			if err == nil {
				err = json.Unmarshal(made.JSON, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
			v.Malformed = 0 // it counts copies, too
			return v, text(t, v), made.Index
		}
		v, one, index := fold(writes)
		if _, other, _ := fold(rapid.Permutation(append(slices.Clone(writes), writes...)).Draw(t, "shuffled")); other != one {
			t.Fatalf("%s\nor %s", one, other)
		}
		is := func(kind string) bool { _, ok := first[kind]; return ok }
		want := naiveState(is)
		acknowledged := firstOf(first, "ack", "execute")
		delivered := firstOf(first, "delivered", "ack", "execute", "refuse")
		late := deadline != 0 && first["execute"] > deadline
		if v.State != want || v.DeliveredMS != delivered || v.AcknowledgedMS != acknowledged || v.StoredMS != first["stored"] || v.Late != late || v.Reports != reports ||
			v.CancelledLate != (is("execute") && is("cancel")) {
			t.Fatalf("%s, want %s, late %v, %d reports, %v", one, want, late, reports, first)
		}
		for name, want := range map[string]bool{
			command.IndexReceiptInbox: delivered == 0, command.IndexReceiptUnstored: delivered == 0 && !is("stored"),
			command.IndexReceiptUndelivered: delivered == 0 && v.Open(), command.IndexReceiptDue: v.Open() && deadline != 0,
		} {
			if got := slices.ContainsFunc(index, func(e crdt.IndexEntry) bool { return e.Name == name }); got != want {
				t.Fatalf("%s is listed in %s: %v", one, name, got)
			}
		}
	})
}

// TestOrderFold: how far an order has gone out follows from its issuer's own steps,
// in any order.
func TestOrderFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := command.Order{Brief: command.Brief{Order: "order:o", Issuer: "c", IssuedAtMS: 1}, Targets: []tiers.SiteID{"d1", "d1a", "d1b"}}
		var writes []write
		sent, waves := map[crdt.HybridTime]int{}, []crdt.HybridTime{0}
		for range rapid.IntRange(0, 8).Draw(t, "steps") {
			s := command.Step{
				At: crdt.HybridTime(rapid.IntRange(1, 5).Draw(t, "at")), By: rapid.SampledFrom([]tiers.SiteID{"c", "c", "d1"}).Draw(t, "by"),
				Kind: rapid.SampledFrom([]string{command.StepSent, command.StepSent, command.StepRemind, command.StepAck}).Draw(t, "kind"),
			}
			if s.Kind == command.StepSent {
				s.Of, s.Count = crdt.HybridTime(rapid.IntRange(0, 5).Draw(t, "of")), rapid.IntRange(0, 4).Draw(t, "count")
			}
			writes = append(writes, write{s.By, text(t, s)})
			switch {
			case s.By != "c":
			case s.Kind == command.StepSent:
				sent[s.Of] = max(sent[s.Of], s.Count)
			case s.Kind == command.StepRemind && !slices.Contains(waves, s.At):
				waves = append(waves, s.At)
			}
		}
		fold := func(ws []write) (v command.OrderView) {
			made, err := command.FoldOrder(source(tiers.StreamID{Site: "c", Class: tiers.ClassCommand}, "order:o", write{"c", text(t, o)}, ws))
			if err == nil {
				err = json.Unmarshal(made.JSON, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
			v.Malformed = 0
			return v
		}
		v := fold(writes)
		if other := fold(rapid.Permutation(append(slices.Clone(writes), writes...)).Draw(t, "shuffled")); text(t, other) != text(t, v) {
			t.Fatalf("%+v\nor %+v", v, other)
		}
		slices.Sort(waves)
		open := false
		for i, at := range waves {
			want := min(sent[at], 3)
			open = open || want < 3
			if i >= len(v.Waves) || v.Waves[i].Step.At != at || v.Waves[i].Sent != want {
				t.Fatalf("wave %d of %d: %+v, want %d sent", at, len(waves), v.Waves, want)
			}
		}
		if _, got := v.Unsent(); got != open {
			t.Fatalf("unsent %v: %+v", got, v.Waves)
		}
	})
}

// TestReceiptLife: each step at each state, as the state diagram says.
func TestReceiptLife(t *testing.T) {
	all := []string{command.StepAck, command.StepExecute, command.StepRefuse, command.StepReport, command.StepCancel, command.StepRemind}
	for state, allowed := range map[string]string{
		command.StateIssued: "ack execute refuse report | cancel remind", command.StateDelivered: "ack execute refuse report | cancel remind",
		command.StateAcknowledged: "execute refuse report | cancel remind", command.StateExecuted: "report |",
		command.StateRefused: "report |", command.StateCancelled: "report |",
	} {
		target, issuer, _ := strings.Cut(allowed, "|")
		v := command.ReceiptView{Site: "d1a", State: state, Brief: command.Brief{Order: "order:o", Issuer: "c", IssuerTier: tiers.TierCity}}
		for by, may := range map[tiers.SiteID]string{"d1a": target, "c": issuer, "d1": ""} {
			for _, kind := range all {
				s := command.Step{By: by, Kind: kind, Note: "n"}
				if kind == command.StepRefuse {
					s.Reason = "no_means"
				}
				err := v.Check(s)
				if ok := slices.Contains(strings.Fields(may), kind); ok != (err == nil) || !ok && !errors.Is(err, command.ErrNow) {
					t.Errorf("%s by %s of one that is %s: %v", kind, by, state, err)
				}
			}
		}
	}
}

// TestSelect: whom an address means, and what is refused.
func TestSelect(t *testing.T) {
	top := topology(t, tiers.Site{ID: "gone", Tier: tiers.TierTownship, Parent: "d1", Retired: true}, tiers.Site{ID: "d2t", Tier: tiers.TierTownship, Parent: "d2"})
	for _, c := range []struct {
		issuer   tiers.SiteID
		to, want string
	}{
		{"c", "d1a", "d1a"}, {"c", "tier:township", "d1a d1b d2t"}, {"c", "tier:district", "d1 d2"}, {"c", "area:d1", "d1 d1a d1b"},
		{"d1", "area:d1", "d1a d1b"}, {"d1", "tier:township", "d1a d1b"}, {"c", "area:c", "d1 d1a d1b d2 d2t"},
		{"c", "d1b, area:d2,d1b", "d1b d2 d2t"},
		{"d1", "d2t", "!want a site below d1"}, {"d1", "c", "!want a site below"}, {"d1", "d1", "!want a site below"}, {"c", "gone", "!gone"},
		{"c", "", "!want a site"}, {"c", "tier:village", "!tier:district or tier:township"}, {"d1", "tier:district", "!no such site"},
		{"d1", "area:d2", "!area:SITE with d1"}, {"d1a", "tier:township", "!no such site"}, {"c", "d1,,d2", "!want a site"},
		{"c", strings.Repeat("x", 1<<20), "!1048576 bytes"},
	} {
		got, err := command.Select(top, c.issuer, c.to)
		var names []string
		for _, s := range got {
			names = append(names, string(s))
		}
		wrong, bad := strings.CutPrefix(c.want, "!")
		if bad != errors.Is(err, command.ErrInvalid) || bad && !strings.Contains(err.Error(), wrong) || !bad && strings.Join(names, " ") != c.want {
			t.Errorf("%s to %.40q: %v, %v, want %s", c.issuer, c.to, names, err, c.want)
		}
	}
}

// TestOrderRefusals: what is refused of an order and its steps names field, value and
// what is allowed.
func TestOrderRefusals(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	long := strings.Repeat("x", 1<<20)
	for want, b := range map[string]command.Brief{
		"title is empty": {}, "title is 1048576": {Title: long}, "text is 1048576": {Title: "x", Text: long}, "who is 1048576": {Title: "x", Who: long},
		"not UTF-8": {Title: "\xff"}, "control": {Title: "a\x00b"}, "deadline 9999": {Title: "x", DeadlineMS: 253370764800000},
		"deadline 1969": {Title: "x", DeadlineMS: -1}, "deadline 2027": {Title: "x", DeadlineMS: now.UnixMilli()},
	} {
		if err := b.Validate(now); !errors.Is(err, command.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := (command.Brief{Title: "x", DeadlineMS: now.UnixMilli() + 1}).Validate(now); err != nil {
		t.Error(err)
	}
	for want, s := range map[string]command.Step{
		`step "sing"`: {Kind: "sing"}, `step "delivered"`: {Kind: command.StepDelivered}, `step "sent"`: {Kind: command.StepSent},
		`reason "tired"`: {Kind: command.StepRefuse, Reason: "tired"}, `reason ""`: {Kind: command.StepRefuse}, "takes none": {Kind: command.StepAck, Reason: "unsafe"},
		"note is empty": {Kind: command.StepReport}, "note is 1048576": {Kind: command.StepReport, Note: long}, "who is": {Kind: command.StepAck, Who: long},
		"evidence: a reference": {Kind: command.StepExecute, Evidence: []string{""}}, "evidence: 17": {Kind: command.StepExecute, Evidence: make([]string, 17)},
		"evidence: ack": {Kind: command.StepAck, Evidence: []string{"x"}},
	} {
		if err := s.Validate(); !errors.Is(err, command.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// FuzzSteps: no text in a document makes a fold panic, and what folds is in a state.
func FuzzSteps(f *testing.F) {
	f.Add(`{"order":"order:o","issuer":"c"}`, `{"at":65536,"by":"d1a","kind":"ack"}`)
	f.Add(`{`, `null`)
	f.Add(`{"targets":["d1"]}`, `{"at":1,"by":"d1a","area":"x","mode":"emergency","level":1,"reason":"r","kind":"sent","count":-5}`)
	f.Fuzz(func(t *testing.T, head, step string) {
		s := source(tiers.StreamID{Site: "d1a", Class: tiers.ClassCommand}, "receipt:o.d1a", write{"c", head}, []write{{"d1a", step}})
		for _, fold := range []func(*crdt.Source) (crdt.View, error){command.FoldReceipt, command.FoldOrder, command.FoldMode, command.FoldSilence} {
			v, err := fold(s)
			if err != nil && !errors.Is(err, command.ErrInvalid) || err == nil && !json.Valid(v.JSON) {
				t.Errorf("%s, %v", v.JSON, err)
			}
		}
	})
}

// TestStepsBeforeReceipt: steps that came before the receipt they follow put it on no
// list of what is to be done, or overdue.
func TestStepsBeforeReceipt(t *testing.T) {
	s := source(tiers.StreamID{Site: "d1a", Class: tiers.ClassCommand}, "receipt:o.d1a", write{}, nil)
	s.Pending = 1
	v, err := command.FoldReceipt(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Index) != 1 || v.Index[0].Name != command.KindReceipt {
		t.Errorf("it is listed: %+v", v.Index)
	}
}
