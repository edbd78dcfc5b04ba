package main

import (
	"encoding/json"
	"testing"
)

// TestWithTimes: each hybrid time of a view gets a readable one beside it, and what only
// looks like one, in a text, stays as it is.
func TestWithTimes(t *testing.T) {
	const in = `{"actions":[{"at":117708021421768704,"by":"500101"},{"by":"x","at":117708021421768704}],"note":"{\"at\":117708021421768704","at_ms":1796081900000}`
	const want = `{"actions":[{"at":117708021421768704,"at_time":"2026-11-30T23:37:49.839Z","by":"500101"},{"by":"x","at":117708021421768704,"at_time":"2026-11-30T23:37:49.839Z"}],"note":"{\"at\":117708021421768704","at_ms":1796081900000}`
	raw := json.RawMessage(in)
	if got := string(withTimes(raw)); got != want || !json.Valid([]byte(got)) || string(raw) != in {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
