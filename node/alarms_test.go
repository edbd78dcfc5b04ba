package node_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestAlarmsKeepEveryKind: whatever is found, however often and about however many
// things, the latest finding of each kind stays, and the list is bounded.
func TestAlarmsKeepEveryKind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := node.NewAlarms()
		a.Raise("rolled_back", "chain", "this site was rolled back")
		last := map[string]string{}
		for i := range rapid.IntRange(1, 600).Draw(t, "findings") {
			kind := fmt.Sprint("kind ", rapid.IntRange(0, 40).Draw(t, "kind"))
			text := fmt.Sprintf("%s, %d.", kind, i)
			a.Raise(kind, fmt.Sprint(rapid.IntRange(0, 1000).Draw(t, "subject")), text)
			last[kind] = text
			if rapid.Bool().Draw(t, "of a peer") {
				peer := tiers.SiteID(fmt.Sprint("p", rapid.IntRange(0, 5).Draw(t, "peer")))
				a.RaiseOf(peer, fmt.Sprintf("%s lies, %d.", peer, i))
			}
		}
		all := a.All()
		joined := strings.Join(all, "\n")
		for _, text := range last {
			if !strings.Contains(joined, text) {
				t.Fatalf("%q is lost:\n%s", text, joined)
			}
		}
		if !strings.Contains(joined, "rolled back") || len(all) > 256 {
			t.Fatalf("%d findings:\n%s", len(all), joined)
		}
	})
}

// TestAlarmsCountOneThing: what is found again about one thing is one finding, with the
// text of the last time.
func TestAlarmsCountOneThing(t *testing.T) {
	a := node.NewAlarms()
	for i := range 1000 {
		a.Raise("held", "", fmt.Sprintf("the last one is %d", i))
	}
	if all := a.All(); len(all) != 1 || !strings.HasSuffix(all[0], "the last one is 999 (1000 times)") {
		t.Errorf("%q", all)
	}
}
