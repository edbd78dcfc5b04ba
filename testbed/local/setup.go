package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// credentials makes the federation's CA and each node's certificate once.
func (c *Cluster) credentials() error {
	caDir := filepath.Join(c.cfg.Dir, "ca")
	if _, err := os.Stat(filepath.Join(caDir, "ca.crt")); errors.Is(err, os.ErrNotExist) {
		if err := identity.InitCA(caDir, c.cfg.Federation, time.Now()); err != nil {
			return err
		}
	}
	ca, err := identity.OpenCA(caDir)
	if err != nil {
		return err
	}
	g := errgroup.Group{} // ends with the last certificate
	g.SetLimit(atOnce)
	for _, row := range c.rows {
		g.Go(func() error {
			for i := range c.nodesAt(row.ID) {
				if err := c.credentialsOf(ca, place{row.ID, i + 1}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// credentialsOf makes a node's certificate, unless it has one. The first node's
// site key is every node's.
func (c *Cluster) credentialsOf(ca *identity.CA, at place) error {
	dir, first := filepath.Join(c.dir(at), "credentials"), filepath.Join(c.dir(place{at.site, 1}), "credentials")
	if _, err := os.Stat(filepath.Join(dir, "node.crt")); errors.Is(err, os.ErrNotExist) {
		issue := identity.IssueConfig{
			ID: identity.ID{Federation: c.cfg.Federation, Site: at.site, Node: at.node}, OutDir: dir, Now: time.Now(),
		}
		if at.node > 1 {
			issue.SiteKeyFrom = first
		}
		if err := ca.Issue(issue); err != nil {
			return err
		}
	}
	creds, err := identity.Load(dir)
	if err != nil {
		return err
	}
	c.rows[at.site].Key = creds.SitePublicKey()
	return nil
}

// ports binds a free loopback port for each node.
func (c *Cluster) ports() error {
	for _, m := range c.all() {
		if err := m.bind(0); err != nil {
			return err
		}
		row := c.rows[m.at.site]
		row.Nodes = append(row.Nodes, tiers.NodeAddr{Node: m.at.node, Addr: m.gate.LocalAddr().String()})
	}
	return nil
}

// versionsPerRun is the room between two runs' bootstrap topologies, for those
// that the city publishes in between: a run that ends before it could say which
// it published is followed by a newer one all the same.
const versionsPerRun = 100

// writeTopology writes the bootstrap file. Ports change with every run, so its
// version rises above the last one's and the city publishes it anew.
func (c *Cluster) writeTopology() error {
	doc := tiers.TopologyDoc{Federation: c.cfg.Federation, Version: 1}
	if b, err := os.ReadFile(c.topologyFile()); err == nil {
		old, err := tiers.ParseTopology(b)
		if err != nil {
			return fmt.Errorf("topology of an earlier run in %s: %w", c.cfg.Dir, err)
		}
		doc.Version = old.Version() + versionsPerRun
	}
	for _, row := range c.rows {
		doc.Sites = append(doc.Sites, *row)
	}
	var err error
	if c.topology, err = tiers.NewTopology(doc); err != nil {
		return err
	}
	b, err := c.topology.Marshal()
	if err != nil {
		return err
	}
	return writeFile(c.topologyFile(), b)
}

// writeFile replaces a file at once, so that a kill leaves the old or the new.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
