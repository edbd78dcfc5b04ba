package sim_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/testbed/sim"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestWorkOn: clients that work on orders, duplicates and the mode bring each of them
// to every state that it can be in.
func TestWorkOn(t *testing.T) {
	s, err := scenario.Parse("x.txt", strings.NewReader(domainSites+`work 4/s on orders at all for 60s
work 4/s on duplicates at all for 30s
work 1/s on mode at all for 30s
after 65s
until acknowledged within 30s
until converged within 60s
`))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sim.Bubble(t, func(t *testing.T) {
		w := sim.New(sim.Config{Dir: dir})
		defer func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}()
		data, err := run.Play(t.Context(), w, s, run.Options{Mode: "sim"})
		if err != nil {
			t.Fatal(err)
		}
		if n := broke(t, data, "orders"); n != 0 {
			t.Errorf("%+v", data.Verdicts)
		}
		site, err := w.Site("500000")
		if err != nil {
			t.Fatal(err)
		}
		if err := site.Ask(t.Context(), func(d run.Domain) error { return worked(t, d) }); err != nil {
			t.Error(err)
		}
	})
}

// worked looks at what came of the work.
func worked(t *testing.T, d run.Domain) error {
	receipts, err := d.ListReceipts(t.Context(), api.ReceiptQuery{ListQuery: api.ListQuery{Limit: 500}})
	if err != nil {
		return err
	}
	states := map[string]int{}
	for _, r := range receipts.Items {
		states[r.State]++
	}
	for _, state := range []string{command.StateAcknowledged, command.StateExecuted, command.StateRefused, command.StateCancelled} {
		if states[state] == 0 {
			t.Errorf("no order is %s: %v", state, states)
		}
	}
	page, err := d.List(t.Context(), api.ListQuery{Kind: event.Kind, Limit: 500})
	if err != nil {
		return err
	}
	merged := 0
	for _, item := range page.Items {
		var v event.View
		if err := json.Unmarshal(item, &v); err != nil {
			return err
		}
		if v.Into != "" {
			merged++
		}
	}
	if merged == 0 {
		t.Errorf("none of %d events is merged", len(page.Items))
	}
	modes, err := d.(api.Modes).ModeHistory(t.Context(), "500101")
	if err != nil {
		return err
	}
	if len(modes.Switches) == 0 {
		t.Errorf("the mode was never switched: %+v", modes)
	}
	return nil
}
