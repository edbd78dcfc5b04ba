package api_test

import (
	"testing"

	"github.com/tiermesh/tiermesh/api"
)

// TestShort: lists show the last digits of a UUID, since identifiers of one import
// begin alike, and what they show is a short form; anything else is shown as it is.
func TestShort(t *testing.T) {
	for _, tt := range []struct {
		id, want string
		short    bool // what is shown may be looked up as the end of one
	}{
		{"event:0190f1c2-0000-7000-8000-00000abc1234", "0abc1234", true},
		{"task:0190f1c2-0000-7000-8000-00000abc1234", "0abc1234", true},
		{"track:flood-control", "track:flood-control", false},
		{"500101/urgent/event:0190f1c2-0000-7000-8000-00000abc1234", "500101/urgent/event:0190f1c2-0000-7000-8000-00000abc1234", false},
		{"event:0190f1c2-0000-7000-8000-00000ABC1234", "event:0190f1c2-0000-7000-8000-00000ABC1234", false},
		{"title=0abc1234", "title=0abc1234", false},
		{"c1234", "c1234", false},
		{"", "", false},
	} {
		got := api.Short(tt.id)
		if got != tt.want || api.IsShort(got) != tt.short {
			t.Errorf("%q shows as %q, short %v; want %q, %v", tt.id, got, api.IsShort(got), tt.want, tt.short)
		}
	}
	if !api.IsShort("event:0abc1234") || api.IsShort("0190f1c2-0000-7000-8000-00000abc1234") {
		t.Error("a kind before it, or a whole UUID")
	}
}

// TestResolve: the client has a short identifier looked up, of a kind.
func TestResolve(t *testing.T) {
	c, path := serve(t, &backend{})
	if id, err := c.Resolve(limited(t), "task", "abc123"); err != nil || id != "task:whole-abc123" {
		t.Errorf("%s, %v", id, err)
	}
	if status, body := raw(t, path, "GET", "/v1/ids/abc123?sort=1", ""); status != 400 {
		t.Errorf("%d %s", status, body)
	}
}
