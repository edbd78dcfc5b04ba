package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication"
)

const configExample = `{
  "dir": "/var/lib/tiermesh/500101",
  "credentials": "/etc/tiermesh/credentials",
  "topology": "/etc/tiermesh/topology.json",
  "listen": "0.0.0.0:7100",
  "api": "unix:/run/tiermesh/api.sock",
  "duplicates": {"metres": 200, "within": "2h"},
  "area": {"box": [28.1, 105.2, 32.3, 110.3], "outside": "doubtful"}
}
`

// reserveBytes is enough for a node to open its store and log on a full disk.
const reserveBytes = 16 << 20

func newNode() *cobra.Command {
	cmd := &cobra.Command{
		Use: "node", Short: "Run a node of a site",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNodeRun(), &cobra.Command{
		Use: "example", Short: "Print a sample configuration", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), configExample)
			return err
		},
	})
	return cmd
}

func newNodeRun() *cobra.Command {
	var file, level string
	cmd := &cobra.Command{
		Use: "run --config FILE", Short: "Run a node until it is told to stop", Args: exactArgs(0),
		Long: `Runs one node of the site that its certificate names. Relative paths in the
configuration are taken from the configuration's own directory. SIGINT and
SIGTERM end the node in order.

SIGHUP makes it read configuration, credentials and topology file again; the
latter two it also looks at by itself every minute. A renewed certificate is used
for new links, those that stand go on. A newer topology file is taken as at the
start. Of the configuration, stand_in_after, upgrade_after and duplicates are put in
force; of the rest the log says that it needs a restart. What cannot be read or
does not fit leaves in force what is, with a line in the log and an alarm.

The configuration (see "tiermesh node example"):
  dir          data directory; it belongs to one site for good
  credentials  directory that "tiermesh ca issue" wrote
  topology     bootstrap topology file; a later one that the city published wins
  listen       UDP address for peers, host:port
  api          unix:/path, a loopback host:port, or "none"; api.sock in dir when left
               out. Over a port a request must bear the token that the node writes
               to api.token in dir (--token-file), and no page of another origin
               is let in
  stand_in_after  for how long the parent must be silent until this site links
               straight to the next ancestor; 60s when left out
  upgrade_after  for how long all nodes of the site must run a build with a newer
               format until the site writes it, and no older build can come back:
               1h when left out, "manual" for tiermesh raft upgrade
  duplicates   when two reports may be of one thing: {"metres": 200,
               "within": "2h", "merge": false}; with merge the site merges by
               itself what has one source key, or one person's same words
  area         where events happen: {"box": [south, west, north, east],
               "geojson": "area.geojson", "outside": "doubtful"}; of box and file
               one is enough. A report of a place outside is taken in and marked
               (event show, event list -o wide: DOUBT), or with "refuse" refused`,
		Example: "  tiermesh node run --config /etc/tiermesh/node.json\n  kill -HUP PID   # after tiermesh ca issue has renewed the certificate",
		RunE: func(cmd *cobra.Command, _ []string) error {
			reload := onHangup(cmd.Context())
			cfg, err := readConfig(file)
			if err != nil {
				return err
			}
			var lvl slog.Level
			if err := lvl.UnmarshalText([]byte(level)); err != nil {
				return usagef("--log %q: want debug, info, warn or error", level)
			}
			logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: lvl}))
			self, err := os.Executable()
			if err != nil {
				return err
			}
			n, err := node.Open(cfg, node.Options{Logger: logger, Fatal: func(err error) { endNode(logger, err) }, Engine: []string{self, "engine"}, Disk: replication.Disk{ReserveBytes: reserveBytes}})
			if err != nil {
				return err
			}
			logger.Info("node is up", "node", n.ID().String(), "listen", n.Addr().String(), "api", cfg.API)
			return runNode(cmd.Context(), n, file, reload)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (JSON)")
	cmd.Flags().StringVar(&level, "log", "info", "log level: debug, info, warn or error")
	require(cmd, "config")
	return cmd
}

// runNode runs a node to its end, and lets it read its files again when it is asked to.
func runNode(ctx context.Context, n *node.Node, file string, reload <-chan struct{}) error {
	asked, stop := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop()
	reading.Go(func() { // ends with the node
		for {
			select {
			case <-reload:
				cfg, err := readConfig(file)
				n.Reload(asked, cfg, err)
			case <-asked.Done():
				return
			}
		}
	})
	return n.Run(ctx)
}

// endNode ends the process for a storage error, with the exit code that the same
// error has when it is met at the start: damage is damage, whoever reads it first.
func endNode(logger *slog.Logger, err error) {
	logger.Error("storage error", "err", err)
	fmt.Fprintln(os.Stderr, "tiermesh: storage error:", err)
	os.Exit(exitCode(err))
}

// readConfig reads a configuration; unknown keys are refused by name.
func readConfig(path string) (node.Config, error) {
	var cfg node.Config
	b, err := os.ReadFile(path)
	if err != nil {
		return cfg, fmt.Errorf("%w: %w", errInput, err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&cfg); err != nil {
		return cfg, fmt.Errorf("%w: configuration %s: %w", errInput, path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return cfg, fmt.Errorf("%w: configuration %s: more than one JSON value", errInput, path)
	}
	base := filepath.Dir(path)
	for _, p := range []*string{&cfg.Dir, &cfg.Credentials, &cfg.Topology, &cfg.Area.GeoJSON} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
	}
	switch cfg.API {
	case "":
		cfg.API = "unix:" + filepath.Join(cfg.Dir, "api.sock")
	case "none":
		cfg.API = ""
	}
	return cfg, nil
}

// newEngine is the worker process that a node starts for documents with changes
// from elsewhere.
func newEngine() *cobra.Command {
	var cfg engine.WorkerConfig
	cmd := &cobra.Command{
		Use: "engine", Short: "Read and edit documents for a node, over standard input and output", Args: exactArgs(0), Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // a terminal's; the node ends its workers
			return engine.Work(cfg, cmd.InOrStdin(), raw(cmd.OutOrStdout()))
		},
	}
	cmd.Flags().Uint64Var(&cfg.MemoryBytes, "memory", 1<<30, "bytes of address space beyond what the process starts with")
	cmd.Flags().DurationVar(&cfg.JobTimeout, "job-timeout", 30*time.Second, "how long a batch may take")
	return cmd
}
