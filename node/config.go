package node

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/tiers"
)

// Config is what an operator says about a node. All fields but Topology's file
// contents are checked by [Open].
type Config struct {
	// Dir is the node's data directory, created when missing.
	Dir string `json:"dir"`
	// Credentials is the directory that "tiermesh ca issue" wrote: it says which
	// site and node this is.
	Credentials string `json:"credentials"`
	// Topology is the bootstrap topology file; a later version that the city
	// published replaces it.
	Topology string `json:"topology"`
	// Listen is the QUIC address for peers, host:port.
	Listen string `json:"listen"`
	// API is where the HTTP API listens: "unix:/path" or a loopback host:port;
	// empty for no API. Over a port a request must bear the token that the node keeps
	// in api.token in Dir.
	API string `json:"api"`
	// StandInAfter is for how long the parent must be silent until this site
	// links straight to the next ancestor, such as "90s"; empty means 60s.
	StandInAfter string `json:"stand_in_after,omitempty"`
	// UpgradeAfter is for how long every node of the site must have run a build that reads
	// a newer format until the site writes it, such as "24h"; from then on no older build
	// can come back. Empty means 1h; "manual" leaves it to "tiermesh raft upgrade".
	UpgradeAfter string `json:"upgrade_after,omitempty"`
	// Duplicates says when two reports are suspected to be of one thing.
	Duplicates Duplicates `json:"duplicates,omitzero"`
	// Area says where the federation's events happen.
	Area Area `json:"area,omitzero"`
}

// standInAfter returns the time of StandInAfter, which was checked.
func (c Config) standInAfter() time.Duration {
	if d, err := time.ParseDuration(c.StandInAfter); err == nil {
		return d
	}
	return time.Minute
}

// upgradeManual is the [Config.UpgradeAfter] that leaves a rise to people.
const upgradeManual = "manual"

// upgradeAfter returns the time of UpgradeAfter, which was checked, and whether the
// format rises by itself.
func (c Config) upgradeAfter() (time.Duration, bool) {
	if d, err := time.ParseDuration(c.UpgradeAfter); err == nil {
		return d, true
	}
	return time.Hour, c.UpgradeAfter != upgradeManual
}

// Validate reports the first missing field. The error wraps [ErrConfig].
func (c Config) Validate() error {
	for _, f := range []struct{ name, value string }{
		{"dir", c.Dir}, {"credentials", c.Credentials}, {"topology", c.Topology}, {"listen", c.Listen},
	} {
		if f.value == "" {
			return fmt.Errorf("%w: %q is missing", ErrConfig, f.name)
		}
	}
	if d, err := time.ParseDuration(c.StandInAfter); c.StandInAfter != "" && (err != nil || d <= 0) {
		return fmt.Errorf("%w: \"stand_in_after\" %q: want a positive duration such as 90s", ErrConfig, c.StandInAfter)
	}
	if d, err := time.ParseDuration(c.UpgradeAfter); c.UpgradeAfter != "" && c.UpgradeAfter != upgradeManual && (err != nil || d < 0) {
		return fmt.Errorf("%w: \"upgrade_after\" %q: want a duration such as 24h, or %q", ErrConfig, c.UpgradeAfter, upgradeManual)
	}
	if err := c.Duplicates.Validate(); err != nil {
		return err
	}
	return c.Area.Validate()
}

// Options are what the process gives a node: the outside world, injected.
type Options struct {
	Logger *slog.Logger
	// Conn replaces the socket on Config.Listen; the node owns it.
	Conn net.PacketConn
	// Now and Random are the clock and the source of randomness.
	Now    func() time.Time
	Random io.Reader
	// Fatal is called on a storage error and must not return to normal work;
	// nil logs and ends the process.
	Fatal func(error)
	// Engine starts a worker process for documents with changes from elsewhere
	// (see [engine.Work]): a program and its arguments. Nil reads them in this
	// process, which a malformed change that passes the validator could end.
	Engine []string
	// Tick is the session's unit of time; zero means 100 ms.
	Tick time.Duration
	// RedialMin and RedialMax bound the wait between attempts to reach the
	// parent; zero means 200 ms and 2 s: a packet now and then costs nothing, and a
	// link that is back is used at once.
	RedialMin, RedialMax time.Duration
	// Bootstrap lets a node of a site of several nodes start a new group when
	// its directory is empty; see [replication.Config].
	Bootstrap bool
	// Disk is what the data directory is on; see [replication.Disk].
	Disk replication.Disk
	// Comparing is how many accepted links compare what they hold at once; four
	// times as many wait, further ones are told when to come back. Zero means 32.
	Comparing int
	// LinkIdle is how long a silent link lives; zero means 15 s.
	LinkIdle time.Duration
	// ScrubEvery is the time between background scrubs; zero means a day.
	ScrubEvery time.Duration
	// Without are bits of [federation.Features] that this node does without, as an
	// older build does.
	Without uint64
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Fatal == nil {
		logger := o.Logger
		o.Fatal = func(err error) {
			logger.Error("storage error", "err", err)
			fmt.Fprintln(os.Stderr, "tiermesh: storage error:", err)
			os.Exit(1)
		}
	}
	if o.Tick == 0 {
		o.Tick = 100 * time.Millisecond
	}
	if o.LinkIdle == 0 {
		o.LinkIdle = 15 * time.Second
	}
	if o.RedialMin == 0 {
		o.RedialMin = 200 * time.Millisecond
	}
	if o.Comparing <= 0 {
		o.Comparing = comparingMax
	}
	if o.ScrubEvery == 0 {
		o.ScrubEvery = 24 * time.Hour
	}
	if o.RedialMax == 0 {
		o.RedialMax = 2 * time.Second
	}
	return o
}

// readTopology reads the bootstrap file.
func readTopology(path string) (*tiers.Topology, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: topology: %w", ErrConfig, err)
	}
	t, err := tiers.ParseTopology(b)
	if err != nil {
		return nil, fmt.Errorf("%w: topology %s: %w", ErrConfig, path, err)
	}
	return t, nil
}
