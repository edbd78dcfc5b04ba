package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// errLeftOut ends an import that left ranges out.
var errLeftOut = errors.New("not everything in the bundle came in: see above; nothing was lost")

func newBundle(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "bundle", Short: "Carry the difference between two sites as a file",
		Long: `A bundle is what one site lacks of another's records, as one signed file for a USB
stick or a satellite phone. Importing it verifies what a link verifies, in the
same order of lanes, and importing it twice is harmless.

When the other site's node was not heard since this one started, everything is
exported; a request from the other site makes it the exact difference:

  there:  tiermesh bundle request --from 500000 ask.request
  here:   tiermesh bundle export --have ask.request answer.bundle
  there:  tiermesh bundle import answer.bundle`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBundleExport(g), newBundleImport(g), newBundleRequest(g), newBundleShow(g))
	return cmd
}

// writeNew writes a new file under another name until it is whole.
func writeNew(path string, write func(io.Writer) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%w: %s exists", errInput, path)
	}
	partial := path + ".partial"
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return os.Rename(partial, path)
}

func newBundleExport(g *global) *cobra.Command {
	var target, have string
	var full bool
	cmd := &cobra.Command{
		Use: "export {--for SITE | --have REQUEST} FILE", Short: "Write what another site lacks to a file", Args: exactArgs(1),
		Long: `Writes what the site --for is not known to hold, of the streams that both sites
may hold, urgent lanes first. What it is known to hold is what its last session
with this node said; --full leaves that aside. With --have it is what the other
site wrote with "tiermesh bundle request", and the bundle is exactly the
difference. The file is read back and checked when it is written.`,
		Example: "  tiermesh bundle export --for 500101001 /mnt/usb/500101001.bundle\n  tiermesh bundle export --have ask.request answer.bundle",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (target == "") == (have == "") || have != "" && full {
				return usagef("want either --for SITE, with or without --full, or --have REQUEST")
			}
			q := api.ExportQuery{For: tiers.SiteID(target), Full: full}
			if have != "" {
				var err error
				if q.Have, err = os.ReadFile(have); err != nil {
					return fmt.Errorf("%w: %w", errInput, err)
				}
			}
			return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
				err := writeNew(args[0], func(w io.Writer) error { return c.ExportBundle(ctx, q, writing{w, moved}) })
				if err != nil {
					return err
				}
				s, err := readBundle(args[0], nil)
				if err != nil {
					return err
				}
				return g.printBundle(cmd.OutOrStdout(), s)
			})
		},
	}
	cmd.Flags().StringVar(&target, "for", "", "the site that the bundle is for")
	cmd.Flags().StringVar(&have, "have", "", "that site's request file")
	cmd.Flags().BoolVar(&full, "full", false, "everything, whatever the site is known to hold")
	return cmd
}

func newBundleRequest(g *global) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "request --from SITE FILE", Short: "Write what this site holds, so that another exports the exact difference", Args: exactArgs(1),
		Example: "  tiermesh bundle request --from 500000 ask.request",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				err := writeNew(args[0], func(w io.Writer) error { return c.RequestBundle(ctx, tiers.SiteID(from), w) })
				if err == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "request written to %s: at site %s, tiermesh bundle export --have %[1]s FILE\n", args[0], from)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the site that is to export")
	require(cmd, "from")
	return cmd
}

func newBundleImport(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Take a bundle in", Args: exactArgs(1),
		Long: `Hands the file to the node, which verifies who made it, every author's signature,
audience and authorship, and every record's place, as on a link. A bundle that is
torn, altered or meant for another site is refused; a range that begins beyond
what this site holds is left out, and what is missing is named. With "-" the
bundle comes from standard input. The time-out is for a transfer that stands
still, not for a large one.`,
		Example: "  tiermesh bundle import /mnt/usb/500101001.bundle",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, total := cmd.InOrStdin(), int64(0)
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("%w: %w", errInput, err)
				}
				defer func() { _ = f.Close() }()
				if info, err := f.Stat(); err == nil {
					total = info.Size()
				}
				in = f
			}
			return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
				r, err := c.ImportBundle(ctx, &reading{r: in, w: cmd.ErrOrStderr(), moved: moved, total: total, last: time.Now()})
				if err != nil {
					return err
				}
				if err := g.printImport(cmd.OutOrStdout(), r); err != nil {
					return err
				}
				if len(r.Gaps)+len(r.Refused) > 0 {
					return errLeftOut
				}
				return nil
			})
		},
	}
}

// writing tells of each write.
type writing struct {
	io.Writer
	moved func()
}

// Write implements [io.Writer].
func (w writing) Write(b []byte) (int, error) {
	w.moved()
	return w.Writer.Write(b)
}

// reading says now and then how far a file was read.
type reading struct {
	r           io.Reader
	w           io.Writer
	moved       func()
	read, total int64
	last        time.Time
}

// Read implements [io.Reader].
func (p *reading) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.moved()
	p.read += int64(n)
	if now := time.Now(); now.Sub(p.last) >= 2*time.Second {
		p.last = now
		fmt.Fprintf(p.w, "%s of %s taken in\n", size(uint64(p.read), false), size(uint64(p.total), false))
	}
	return n, err
}

func (g *global) printImport(w io.Writer, r api.ImportReport) error {
	if g.output == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	for _, m := range r.Gaps {
		fmt.Fprintf(w, "gap: %s by %s: this site holds %s, the bundle begins at %d: records %d to %d are missing. Import the bundle that holds them first, or ask for one: tiermesh bundle request --from %s FILE\n",
			m.Stream, m.Author, count(m.Holds, "record"), m.Starts, m.Holds+1, m.Starts-1, r.From)
	}
	for _, m := range r.Refused {
		fmt.Fprintf(w, "refused: %s by %s: %s\n", m.Stream, m.Author, m.Reason)
	}
	_, err := fmt.Fprintf(w, "bundle of site %s made %s: %s, %d were here, %d left out\n",
		r.From, localTime(r.TimeMS), count(r.New, "new record"), r.Held, r.Skipped)
	return err
}

// bundleShown is what a bundle says of itself, checked.
type bundleShown struct {
	Federation      string        `json:"federation"`
	From            tiers.SiteID  `json:"from"`
	For             tiers.SiteID  `json:"for"`
	TimeMS          int64         `json:"time_ms"`
	TopologyVersion uint64        `json:"topology_version"`
	Records         uint64        `json:"records"`
	Bytes           uint64        `json:"bytes"`
	Signed          bool          `json:"signatures_checked"`
	Ranges          []bundleRange `json:"ranges"`
}

type bundleRange struct {
	Stream string `json:"stream"`
	Lane   int    `json:"lane"`
	Author string `json:"author"`
	After  uint64 `json:"after"`
	Last   uint64 `json:"last"`
	Bytes  uint64 `json:"bytes"`
}

func newBundleShow(g *global) *cobra.Command {
	var topology string
	cmd := &cobra.Command{
		Use: "show FILE", Short: "Check a bundle, without a node, and say what it holds", Args: exactArgs(1),
		Long: `Reads the whole file and recomputes every chain from where it starts to the
checkpoint where it ends. With --topology it also checks every signature,
audience and author.`,
		Example: "  tiermesh bundle show answer.bundle --topology topology.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			var t *tiers.Topology
			if topology != "" {
				var err error
				if t, err = readTopology(topology); err != nil {
					return err
				}
			}
			s, err := readBundle(args[0], t)
			if err != nil {
				return err
			}
			return g.printBundle(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().StringVar(&topology, "topology", "", "topology file to check signatures against")
	return cmd
}

// readBundle reads a bundle to its end and checks it, with a topology's keys when
// there is one.
func readBundle(path string, t *tiers.Topology) (out bundleShown, err error) {
	f, err := os.Open(path)
	if err != nil {
		return out, fmt.Errorf("%w: %w", errInput, err)
	}
	defer func() { _ = f.Close() }()
	b, err := federation.ReadBundle(f)
	if err != nil {
		return out, fmt.Errorf("%s: %w", path, err)
	}
	if err := b.Check(t); err != nil {
		return out, fmt.Errorf("%s: %w", path, err)
	}
	m := b.Manifest()
	out = bundleShown{
		Federation: m.Federation, From: m.From, For: m.For, TimeMS: m.TimeMS, TopologyVersion: m.TopologyVersion, Signed: t != nil,
		Ranges: []bundleRange{},
	}
	out.Records, out.Bytes = m.Totals()
	for _, r := range m.Ranges {
		c := r.End.Chain
		out.Ranges = append(out.Ranges, bundleRange{
			Stream: c.Stream.String(), Lane: int(c.Stream.Class.Lane()), Author: c.Author.String(),
			After: r.From.Seq, Last: r.End.Head.Seq, Bytes: r.Bytes,
		})
	}
	return out, nil
}

func (g *global) printBundle(w io.Writer, s bundleShown) error {
	if g.output == "json" {
		return json.NewEncoder(w).Encode(s)
	}
	checked := "whole; signatures not checked (--topology checks them)"
	if s.Signed {
		checked = "whole, every signature checked"
	}
	fmt.Fprintf(w, "bundle of federation %s from site %s for site %s, made %s, topology %d: %s of %s in %s: %s\n",
		s.Federation, s.From, s.For, localTime(s.TimeMS), s.TopologyVersion,
		count(s.Records, "record"), size(s.Bytes, false), count(len(s.Ranges), "range"), checked)
	if len(s.Ranges) == 0 {
		return nil
	}
	var rows [][]string
	for _, r := range s.Ranges {
		rows = append(rows, []string{r.Stream, fmt.Sprint(r.Lane), r.Author, fmt.Sprint(r.After + 1), fmt.Sprint(r.Last), size(r.Bytes, false)})
	}
	return table(w, []string{"STREAM", "LANE", "AUTHOR", "FROM", "TO", "SIZE"}, rows)
}

// size formats bytes for people; an estimate bears a tilde.
func size(n uint64, estimated bool) string {
	var b strings.Builder
	if estimated {
		b.WriteByte('~')
	}
	switch {
	case n < 1000:
		fmt.Fprintf(&b, "%d B", n)
	case n < 1_000_000:
		fmt.Fprintf(&b, "%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		fmt.Fprintf(&b, "%.1f MB", float64(n)/1e6)
	default:
		fmt.Fprintf(&b, "%.1f GB", float64(n)/1e9)
	}
	return b.String()
}
