package node_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/api"
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

// TestAlarmsAcknowledged: what somebody has seen to is not shown as an alarm any more,
// until it says something else; found again as it was it is counted and stays seen to.
// An acknowledgement of several is of all or none.
func TestAlarmsAcknowledged(t *testing.T) {
	a := node.NewAlarms()
	a.Raise("held", "", "one row waits")
	a.Raise("fork", "x", "chain x forks")
	a.Raise("fork", "y", "chain y forks")
	ids := map[string]string{}
	for _, x := range a.Listed() {
		ids[x.Text] = x.ID
	}
	for name, row := range map[string]struct {
		ids  []string
		want error
	}{
		"one that is not there": {[]string{ids["chain x forks"], "zz"}, api.ErrNotFound}, "none": {[]string{""}, api.ErrNotFound},
	} {
		if err := a.Ack(api.AlarmAck{IDs: row.ids, Who: "张三"}); !errors.Is(err, row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all := a.All(); len(all) != 3 {
		t.Errorf("after acknowledgements that were refused: %q", all)
	}
	if err := a.Ack(api.AlarmAck{IDs: []string{ids["chain x forks"][:6], ids["one row waits"]}, Who: "张三", Note: "seen to"}); err != nil {
		t.Fatal(err)
	}
	if all := a.All(); len(all) != 1 || !strings.Contains(all[0], "chain y forks") {
		t.Errorf("unacknowledged: %q", all)
	}
	a.Raise("fork", "x", "chain x forks") // as it was
	a.Raise("held", "", "two rows wait")  // something else
	if all := a.All(); len(all) != 2 || !strings.Contains(all[1], "two rows wait") {
		t.Errorf("found again: %q", all)
	}
	for _, x := range a.Listed() {
		switch x.Text {
		case "chain x forks":
			if x.Times != 2 || x.Ack == nil || x.Ack.Who != "张三" || x.Ack.Note != "seen to" || x.ID != ids[x.Text] {
				t.Errorf("%+v, %+v", x, x.Ack)
			}
		case "two rows wait":
			if x.Ack != nil || x.ID != ids["one row waits"] {
				t.Errorf("%+v, %+v", x, x.Ack)
			}
		}
	}
}
