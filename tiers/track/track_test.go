package track_test

import (
	"errors"
	"strings"
	"testing"

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

// TestDefaults: the default tracks are valid, unique and under known boards.
func TestDefaults(t *testing.T) {
	boards := map[string]bool{}
	for _, b := range track.DefaultBoards() {
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
