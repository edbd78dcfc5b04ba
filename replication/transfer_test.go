package replication_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/replication"
)

// TestTransferSaysWhoLeads: after a transfer it is said who leads; a member that did
// not take over is an error that names the one that leads, and so is a transfer to a
// member without a vote, of which Raft itself would say nothing.
func TestTransferSaysWhoLeads(t *testing.T) {
	c := newCluster(t, 2, nil)
	third := c.start(3)
	c.led(func(lead *replication.Group) error { return lead.AddNonvoter(third.ID(), "test") })
	lead := c.leader()
	if err := lead.Transfer(third.ID()); !errors.Is(err, replication.ErrMember) || !strings.Contains(err.Error(), "no vote") {
		t.Error("transfer to a non-voter:", err)
	}
	m, err := lead.AwaitTransfer(limited(t), third.ID())
	if !errors.Is(err, replication.ErrMember) || !strings.Contains(err.Error(), m.ID+" leads") || m.ID == third.ID() {
		t.Error("nobody took over:", m, err)
	}
	var next string
	c.led(func(lead *replication.Group) error {
		for _, g := range c.all() {
			if g != lead && g != third {
				next = g.ID()
			}
		}
		if err := lead.Transfer(next); err != nil {
			return err
		}
		m, err := lead.AwaitTransfer(limited(t), next)
		if err == nil && m.ID != next {
			t.Error("who leads:", m, "want", next)
		}
		return err
	})
	c.led(func(lead *replication.Group) error {
		if err := lead.Transfer(""); err != nil {
			return err
		}
		m, err := lead.AwaitTransfer(limited(t), "")
		if err == nil && (m.ID == lead.ID() || m.ID == third.ID()) {
			t.Error("who leads:", m)
		}
		return err
	})
}
