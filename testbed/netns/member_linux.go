package netns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// peerPort is the port of every node; each has an address of its own.
const peerPort = 7100

// member is one node of a site, or a clone of one.
type member struct {
	site tiers.SiteID
	num  uint32
	ns   string
	addr netip.Addr
	dir  string
	// credentials are the node's own, also of a clone.
	credentials string
	client      *api.Client

	process *process // the world's lock guards it
	cpu     float64  // of processes before; the world's lock guards it
}

func newMember(site tiers.SiteID, num uint32, ns, dir string) *member {
	m := &member{site: site, num: num, ns: ns, dir: dir, credentials: filepath.Join(dir, "credentials")}
	m.client = api.NewClient(m.api())
	return m
}

func (m *member) String() string { return fmt.Sprintf("node %d of site %s", m.num, m.site) }

func (m *member) api() string    { return "unix:" + filepath.Join(m.dir, "api.sock") }
func (m *member) data() string   { return filepath.Join(m.dir, "data") }
func (m *member) backup() string { return filepath.Join(m.dir, "backup") }
func (m *member) config() string { return filepath.Join(m.dir, "node.json") }

func (m *member) listen() string { return netip.AddrPortFrom(m.addr, peerPort).String() }

// nodeConfig is the node's configuration.
func (w *World) nodeConfig(m *member) node.Config {
	cfg := node.Config{
		Dir: m.data(), Credentials: m.credentials, Topology: w.topologyFile(), Listen: m.listen(), API: m.api(),
	}
	if w.cfg.StandInAfter > 0 {
		cfg.StandInAfter = w.cfg.StandInAfter.String()
	}
	return cfg
}

// writeConfig writes a node's configuration file.
func (w *World) writeConfig(m *member) error {
	b, err := json.MarshalIndent(w.nodeConfig(m), "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.config(), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// issue makes the node's certificate; the nodes of a site share its key, the first
// one's.
func (m *member) issue(ca *identity.CA, federation, keyFrom string) (*identity.Credentials, error) {
	cfg := identity.IssueConfig{
		ID: identity.ID{Federation: federation, Site: m.site, Node: m.num}, OutDir: m.credentials, Now: time.Now(),
	}
	if m.num > 1 {
		cfg.SiteKeyFrom = keyFrom
	}
	if err := ca.Issue(cfg); err != nil {
		return nil, err
	}
	return identity.Load(m.credentials)
}

// spawn starts a member's process. It does not wait for anything.
func (w *World) spawn(m *member) error {
	p, err := w.starter.start(m.ns, filepath.Join(m.dir, "node.log"),
		w.cfg.Command, "node", "run", "--config", m.config(), "--log", "warn")
	if err != nil {
		return fmt.Errorf("start %s: %w", m, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m.retire()
	m.process = p
	return nil
}

// retire keeps what a process that ended has used. The world's lock is held.
func (m *member) retire() {
	if m.process != nil && m.process.cmd.ProcessState != nil {
		s := m.process.cmd.ProcessState
		m.cpu += (s.UserTime() + s.SystemTime()).Seconds()
		m.process = nil
	}
}

// at returns a member's process, nil when there is none.
func (w *World) at(m *member) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.process
}

// answers waits until a member's API does.
func (w *World) answers(ctx context.Context, m *member) (api.Status, error) {
	p := w.at(m)
	if p == nil {
		return api.Status{}, fmt.Errorf("%w: %s", run.ErrDown, m)
	}
	for {
		s, err := m.client.Status(ctx)
		if err == nil {
			return s, nil
		}
		select {
		case <-p.exited:
			return s, fmt.Errorf("start %s: %w", m, p.gone())
		case <-ctx.Done():
			return s, errors.Join(fmt.Errorf("start %s: %w", m, context.Cause(ctx)), err)
		case <-time.After(readyPoll):
		}
	}
}

// ready waits until a site has a leader that takes writes, when a majority of its
// nodes is up, and otherwise until those that are up answer.
func (w *World) ready(ctx context.Context, id tiers.SiteID) error {
	up := w.upOf(id)
	majority := len(up) > len(w.sites[id])/2
	for {
		for _, m := range up {
			s, err := w.answers(ctx, m)
			if err != nil {
				return err
			}
			if s.Role == "leader" {
				return nil
			}
		}
		if !majority {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start site %s: wait for a leader: %w", id, context.Cause(ctx))
		case <-time.After(readyPoll):
		}
	}
}

// whole waits until every node of a site has a vote, so that any minority of them
// can be lost.
func (w *World) whole(ctx context.Context, id tiers.SiteID) error {
	want := len(w.sites[id])
	for {
		members, err := w.sites[id][0].client.Members(ctx)
		voters := 0
		for _, m := range members {
			if m.Role == "leader" || m.Role == "voter" {
				voters++
			}
		}
		if err == nil && voters == want {
			return nil
		}
		for _, m := range w.sites[id] {
			if p := w.at(m); !p.up() {
				return fmt.Errorf("start %s: %w", m, p.gone())
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start site %s: %d of %d nodes have a vote: %w", id, voters, want, context.Cause(ctx)), err)
		case <-time.After(readyPoll):
		}
	}
}

// upOf returns the nodes of a site that are up and not paused.
func (w *World) upOf(id tiers.SiteID) (up []*member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.sites[id] {
		if m.process.up() && !m.process.paused.Load() {
			up = append(up, m)
		}
	}
	return up
}

// inProcess opens a node here for f, while its own process is down. It links to
// nobody: its loops do not run, and the address of its peers is not this host's.
func (w *World) inProcess(ctx context.Context, m *member, f func(*node.Node) error) (err error) {
	cfg := w.nodeConfig(m)
	cfg.API, cfg.Listen = "", "127.0.0.1:0"
	n, err := node.Open(cfg, node.Options{Logger: w.cfg.Logger})
	if err != nil {
		return fmt.Errorf("open %s: %w", m, err)
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.Ready(ctx); err != nil {
		return fmt.Errorf("open %s: %w", m, err)
	}
	return f(n)
}
