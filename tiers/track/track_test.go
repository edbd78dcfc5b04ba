package track_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

func TestRefusals(t *testing.T) {
	good := track.DefaultTracks()[0]
	for name, change := range map[string]func(*track.Track){
		"no code":       func(x *track.Track) { x.Code = "" },
		"no board":      func(x *track.Track) { x.Board = "" },
		"no name":       func(x *track.Track) { x.Name = "" },
		"long target":   func(x *track.Track) { x.Target = strings.Repeat("x", 4097) },
		"not UTF-8":     func(x *track.Track) { x.Owner = "\xff" },
		"11-year limit": func(x *track.Track) { x.DeadlineDays = 4000 },
	} {
		x := good
		change(&x)
		if _, err := track.Ops(x); !errors.Is(err, track.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, fields := range map[string]map[string]string{
		"nothing":        nil,
		"unknown field":  {"colour": "red"},
		"fixed field":    {"code": "x"},
		"no number":      {"deadline_days": "soon"},
		"negative":       {"deadline_days": "-1"},
		"good and wrong": {"name": "x", "board": "y"},
	} {
		if ops, err := track.EditOps(fields); !errors.Is(err, track.ErrInvalid) || ops != nil {
			t.Errorf("%s: %v, %v", name, ops, err)
		}
	}
	if ops, err := track.EditOps(map[string]string{"target": "t", "name": "n"}); err != nil || len(ops) != 2 || ops[0].Key != "name" {
		t.Errorf("%v, %v", ops, err)
	}
}

// TestProposalRefusals: what breaks a rule is refused by field and what is allowed.
func TestProposalRefusals(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	asked := func(change func(*track.Content)) error {
		x := added
		c := content("why")
		c.Track = &x
		change(&c)
		_, err := track.ProposalOps(track.Draft{By: townID, Content: c})
		return err
	}
	acted := func(change func(*track.Action)) error {
		a := track.Action{At: 1 << 16, By: distID, Tier: tiers.TierDistrict, Kind: track.ActionReject, Reason: "why"}
		change(&a)
		_, err := track.ActionOp(a)
		return err
	}
	taken := func(x track.Taken) error { _, err := track.RefreshOp(x); return err }
	board := func(b track.Board) error { _, err := track.BoardOps(b); return err }
	year := func(y int) crdt.HybridTime { return crdt.NewHybridTime(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)) }
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"good":              {asked(func(*track.Content) {}), ""},
		"good action":       {acted(func(*track.Action) {}), ""},
		"do":                {asked(func(c *track.Content) { c.Do = "paint" }), "want add, change or retire"},
		"site":              {asked(func(c *track.Content) { c.Site = "a/b" }), "site"},
		"long code":         {asked(func(c *track.Content) { c.Code = strings.Repeat("x", 65) }), "1 to 64"},
		"no reason":         {asked(func(c *track.Content) { c.Reason = "" }), "reason is empty"},
		"1 MB reason":       {asked(func(c *track.Content) { c.Reason = long }), "reason is 1048576 bytes"},
		"1 MB who":          {asked(func(c *track.Content) { c.Who = long }), "who is 1048576 bytes"},
		"zero byte":         {asked(func(c *track.Content) { c.Reason = "a\x00" }), "zero byte"},
		"not UTF-8":         {asked(func(c *track.Content) { c.Who = "\xff" }), "not UTF-8"},
		"no track":          {asked(func(c *track.Content) { c.Track = nil }), "track"},
		"another code":      {asked(func(c *track.Content) { c.Track.Code = "x" }), "want code tea"},
		"an origin":         {asked(func(c *track.Content) { c.Track.Origin = "x" }), "neither origin"},
		"bad board":         {asked(func(c *track.Content) { c.Track.Board = "a/b" }), "board"},
		"fields of an add":  {asked(func(c *track.Content) { c.Fields = map[string]string{"target": "x"} }), "fields"},
		"a fixed field":     {asked(func(c *track.Content) { c.Do, c.Track, c.Fields = "change", nil, map[string]string{"code": "x"} }), `field "code"`},
		"1 MB base":         {asked(func(c *track.Content) { c.Base = map[string]string{"target": long} }), "base of target"},
		"kind":              {acted(func(a *track.Action) { a.Kind = "burn" }), "want one of submit"},
		"no tier":           {acted(func(a *track.Action) { a.Tier = 0 }), "tier 0"},
		"year 9999":         {acted(func(a *track.Action) { a.At = year(9999) }), "between 1970 and 2200"},
		"before 1970":       {acted(func(a *track.Action) { a.At = crdt.HybridTime(1<<64 - 1) }), "between 1970 and 2200"},
		"silent rejection":  {acted(func(a *track.Action) { a.Reason = "" }), "reason is empty"},
		"1 MB why":          {acted(func(a *track.Action) { a.Reason = long }), "reason is 1048576 bytes"},
		"reject anyway":     {acted(func(a *track.Action) { a.Anyway = true }), "anyway"},
		"submit for others": {acted(func(a *track.Action) { a.Kind, a.StandIn = track.ActionSubmit, true }), "stand_in"},
		"empty revision":    {acted(func(a *track.Action) { a.Kind = track.ActionRevise }), "content"},
		"bad revision":      {acted(func(a *track.Action) { a.Kind, a.Content = track.ActionRevise, &track.Content{} }), "site"},
		"adopted from":      {taken(track.Taken{From: "a/b"}), "from"},
		"adopted in 9999":   {taken(track.Taken{From: cityID, At: year(9999)}), "between 1970 and 2200"},
		"adopted by 1 MB":   {taken(track.Taken{From: cityID, Who: long}), "who is"},
		"board code":        {board(track.Board{Code: "a b", Name: "x"}), `board "a b"`},
		"board name":        {board(track.Board{Code: "a"}), "name"},
		"board tier":        {board(track.Board{Code: "a", Name: "x", Tier: 9}), "tier"},
		"own value":         {track.CheckOverrides(map[string]string{"state": "retired"}), `field "state"`},
	} {
		if row.want == "" && row.err != nil || row.want != "" && (!errors.Is(row.err, track.ErrInvalid) || !strings.Contains(row.err.Error(), row.want)) {
			t.Errorf("%s: %.200v, want %q", name, row.err, row.want)
		}
	}
}

// TestDifferences: a change shows what is not any more as its author saw it, and what
// takes it back leaves alone what changed since.
func TestDifferences(t *testing.T) {
	now := view(cityID, track.Kind, "gas", map[string]any{"target": "1", "owner": "a"})
	c := track.Content{Do: track.DoChange, Site: cityID, Code: "gas", Fields: map[string]string{"target": "2", "owner": "b", "deadline_days": "3"}}.Based(now)
	if c.Base["target"] != "1" || c.Base["deadline_days"] != "0" || len(c.Differences(now)) != 0 {
		t.Errorf("%v, %v", c.Base, c.Differences(now))
	}
	now.Fields["target"], now.Conflicts = "9", []track.Conflict{{Field: "owner"}}
	want := []track.Difference{{Field: "owner", Base: "a", Now: "a", Proposed: "b", Conflict: true}, {Field: "target", Base: "1", Now: "9", Proposed: "2"}}
	if d := c.Differences(now); !slices.Equal(d, want) {
		t.Errorf("%+v", d)
	}
	now.Fields["owner"] = "b"
	if u := c.Undo(now); len(u) != 1 || u["owner"] != "a" {
		t.Errorf("%v", u)
	}
	r := track.Content{Do: track.DoRetire}.Based(now)
	now.Fields["state"] = track.StateRetired
	if d, u := r.Differences(now), r.Undo(now); len(d) != 1 || d[0].Base != track.StateActive || u["state"] != track.StateActive {
		t.Errorf("%+v, %v", d, u)
	}
	if u := (track.Content{Do: track.DoAdd}).Undo(now); len(u) != 0 {
		t.Errorf("%v", u)
	}
}

// TestDefaults: the default tracks are valid, unique and under known boards.
func TestDefaults(t *testing.T) {
	boards := map[string]bool{}
	for _, b := range track.DefaultBoards() {
		if _, err := track.BoardOps(b); err != nil {
			t.Error(err)
		}
		boards[b.Code] = true
	}
	seen := map[string]bool{}
	for _, x := range track.DefaultTracks() {
		if _, err := track.Ops(x); err != nil || !boards[x.Board] || seen[x.Code] {
			t.Errorf("%+v: %v, board known %v, seen %v", x, err, boards[x.Board], seen[x.Code])
		}
		seen[x.Code] = true
	}
	if len(boards) != 12 || len(seen) != 70 {
		t.Errorf("%d boards, %d tracks", len(boards), len(seen))
	}
}
