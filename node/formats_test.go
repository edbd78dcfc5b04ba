package node_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
)

// threeVoters is a city of three nodes that all have a vote.
func threeVoters(t *testing.T) *mesh {
	t.Helper()
	c, err := local.Open(limited(t), local.Config{Dir: t.TempDir(), Federation: "cq", Nodes: 3, API: true, Sites: []tiers.Site{
		{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{Cluster: c, t: t}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	m.voters(city, 3)
	return m
}

// TestNodesCompare: a node of a site that holds something else than the others at one
// log entry is named, with what to do, and is not given the leadership; another is.
func TestNodesCompare(t *testing.T) {
	m := threeVoters(t)
	m.report3(city, 3)
	var found []string
	var err error
	compare := func() {
		t.Helper()
		m.wait("nodes to compare", func() bool {
			found, err = m.Node(city).CompareNodes(limited(t))
			if err != nil && !errors.Is(err, replication.ErrNotLeader) && !errors.Is(err, replication.ErrUnknown) && !errors.Is(err, replication.ErrFormat) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	if compare(); len(found) != 0 {
		t.Fatalf("found %q where nothing is wrong", found)
	}
	leader := m.leader(city)
	wrong, right := leader%3+1, (leader+1)%3+1
	forge(t, m.NodeOf(city, wrong).Group().Store())
	if compare(); len(found) != 1 || !strings.Contains(found[0], fmt.Sprintf("node %d ", wrong)) || !strings.Contains(found[0], "tiermesh repair") {
		t.Errorf("found %q, want node %d", found, wrong)
	}
	client := api.NewClient(m.APIOf(city, m.leader(city)))
	defer client.Close()
	_, err = client.ChangeMember(limited(t), api.MemberChange{Do: api.MemberTransfer, ID: fmt.Sprint(wrong)})
	if !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "other data") {
		t.Errorf("transfer to the wrong node: %v", err)
	}
	if _, err := client.ChangeMember(limited(t), api.MemberChange{Do: api.MemberTransfer}); err != nil {
		t.Errorf("transfer to whoever may: %v", err)
	}
	m.wait("a node that holds what most do to lead", func() bool {
		lead := m.Node(city)
		return lead.Group().Leads() && lead.ID().Node == right
	})
}

// TestUpgradeAtOnce: a site whose nodes all have the newest build has the newest format,
// and an upgrade says so again without harm; each node tells which formats it reads.
func TestUpgradeAtOnce(t *testing.T) {
	m := threeVoters(t)
	client := api.NewClient(m.APIOf(city, m.leader(city)))
	defer client.Close()
	if _, err := client.ChangeMember(limited(t), api.MemberChange{Do: api.MemberUpgrade}); err != nil {
		t.Fatal(err)
	}
	m.wait("all nodes to write the newest format", func() bool {
		members, err := client.Members(limited(t))
		if err != nil || len(members) != 3 {
			return false
		}
		for _, x := range members {
			if x.Info == nil || x.Info.Format != replication.Format || x.Info.SiteFormat != replication.Format {
				return false
			}
		}
		return true
	})
}
