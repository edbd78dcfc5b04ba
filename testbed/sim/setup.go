package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// federationName is that of every simulated federation.
const federationName = "sim"

// credentialsValidFor covers any run in virtual time.
const credentialsValidFor = 10 * 365 * 24 * time.Hour

func (w *World) topologyFile() string { return filepath.Join(w.cfg.Dir, "topology.json") }

// credentialsOf returns the directory with a place's credentials; a clone has those
// of what it was cloned from.
func (w *World) credentialsOf(at place) string {
	return filepath.Join(w.cfg.Dir, "credentials", dirName(place{site: at.site, node: at.node}))
}

// credentials makes the authority and every node's certificate, by the bubble's
// clock.
func (w *World) credentials() error {
	dir := filepath.Join(w.cfg.Dir, "ca")
	if err := identity.InitCA(dir, federationName, time.Now()); err != nil {
		return err
	}
	ca, err := identity.OpenCA(dir)
	if err != nil {
		return err
	}
	for _, at := range w.places {
		issue := identity.IssueConfig{
			ID:     identity.ID{Federation: federationName, Site: at.site, Node: at.node},
			OutDir: w.credentialsOf(at), Now: time.Now(), ValidFor: credentialsValidFor,
		}
		if at.node > 1 {
			issue.SiteKeyFrom = w.credentialsOf(place{site: at.site, node: 1})
		}
		err := errors.Join(
			ca.Issue(issue), os.MkdirAll(filepath.Dir(w.data(at)), 0o700), os.MkdirAll(w.members[at].disk.trash, 0o700))
		if err != nil {
			return err
		}
	}
	return nil
}

// writeTopology fills in keys and addresses and writes the bootstrap file.
func (w *World) writeTopology() error {
	doc := tiers.TopologyDoc{Federation: federationName, Version: 1}
	for _, row := range w.script.Federation.Sites {
		creds, err := identity.Load(w.credentialsOf(place{site: row.ID, node: 1}))
		if err != nil {
			return err
		}
		row.Key, row.Nodes = creds.SitePublicKey(), nil
		for _, m := range w.of(row.ID, 0, false) {
			row.Nodes = append(row.Nodes, tiers.NodeAddr{Node: m.at.node, Addr: m.addr.String()})
		}
		doc.Sites = append(doc.Sites, row)
	}
	var err error
	if w.topology, err = tiers.NewTopology(doc); err != nil {
		return err
	}
	b, err := w.topology.Marshal()
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.topologyFile(), b, 0o600); err != nil {
		return fmt.Errorf("write topology: %w", err)
	}
	return nil
}

// random is a source of randomness that follows from a seed.
type random struct {
	mu  sync.Mutex // guards src
	src *rand.ChaCha8
}

var _ io.Reader = (*random)(nil)

func newRandom(seed [4]uint64) *random {
	var key [32]byte
	for i, n := range seed {
		for j := range 8 {
			key[8*i+j] = byte(n >> (8 * j))
		}
	}
	return &random{src: rand.NewChaCha8(key)}
}

// Read implements [io.Reader].
func (r *random) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.Read(b)
}

// Usage implements [run.World]; memory and processor time are the process's, which
// runs nothing else.
func (w *World) Usage() run.Usage {
	w.mu.Lock()
	needed := w.needed
	var lives []*life
	for _, m := range w.members {
		if m.life != nil {
			lives = append(lives, m.life)
		}
	}
	w.mu.Unlock()
	for _, l := range lives {
		needed += l.needed()
	}
	u := run.ThisProcess()
	u.WireBytes, u.NeededBytes, u.CPUSeconds = w.net.bytes(), needed, u.CPUSeconds-w.began
	return u
}

// needed counts the bytes of batches that brought a node something new.
func (l *life) needed() (bytes uint64) {
	for _, s := range l.node.Links() {
		bytes += s.Totals.NeededBytes
	}
	return bytes
}
