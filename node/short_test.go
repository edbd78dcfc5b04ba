package node_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestShortIDs: an event is found by its last digits, when no other one ends in them;
// else it is refused with the candidates. What is written needs the whole name, so that
// a write that is repeated cannot come to another event.
func TestShortIDs(t *testing.T) {
	m := newMesh(t)
	const one, two = "0190f1c2-0000-7000-8000-00000abc1234", "0190f1c2-0000-7000-8000-00000abd1234"
	for _, id := range []string{one, two} {
		m.named(township, id, event.Report{Title: "井盖 " + id, Type: "01001", Priority: 3})
	}
	b := m.Node(township).Backend()
	for _, text := range []string{"abc1234", "event:abc1234", "0000abc1234", "8000-00000abc1234", one, "event:" + one} {
		if id, err := b.Resolve(limited(t), "event", text); err != nil || id != "event:"+one {
			t.Errorf("%q: %s, %v", text, id, err)
		}
		if items, err := b.View(limited(t), "event", text); err != nil || len(items) != 1 || !strings.Contains(string(items[0]), one) {
			t.Errorf("%q: %s, %v", text, items, err)
		}
	}
	_, err := b.Resolve(limited(t), "event", "234")
	if !errors.Is(err, api.ErrNotFound) {
		t.Errorf("three digits: %v", err)
	}
	if m.named(township, "0190f1c2-0000-7000-8000-0000fabc1234", event.Report{Title: "别的", Type: "01001", Priority: 3}); true {
		_, err = b.Resolve(limited(t), "event", "abc1234")
	}
	if !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "event:"+one) || !strings.Contains(err.Error(), "0000fabc1234") {
		t.Errorf("ambiguous: %v", err)
	}
	if _, err := b.Resolve(limited(t), "task", "abd1234"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("another kind: %v", err)
	}
	if _, err := b.ActOnEvent(limited(t), api.EventActionRequest{Key: "k", Event: "event:abd1234", Action: event.Action{Kind: event.KindAccept}}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a write by the last digits: %v", err)
	}
}
