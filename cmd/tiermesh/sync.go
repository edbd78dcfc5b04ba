package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// errUnequal ends a proof that two sites do not hold the same.
var errUnequal = errors.New("the two sites do not hold the same: see above")

func newSync(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "sync", Short: "What this site and its peers owe each other, and the proof that it is nothing",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSyncStatus(g), newSyncProve(g), newSyncVerify(g), newSyncForecast(g))
	return cmd
}

func newSyncStatus(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "status [PEER]", Short: "The state of every link, or of one; -o wide shows each stream", Args: atMostArgs(1),
		Long: `Shows what each end of a link lacks, in records and bytes of records, and since
when: OLDEST is the age of the oldest record that the peer lacks. A tilde marks
an estimate: of what the peer holds and this site does not, the size is that of
this site's mean record. PROVEN says when both ends last showed the same digest.
Of a link that is down it shows what is held here now beside what the peer held
in the last session; "?" says that there was none since the node started.`,
		Example: "  tiermesh sync status\n  tiermesh sync status 500000 -o wide\n  tiermesh sync status -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				q := api.SyncQuery{Streams: g.output != "table"}
				if len(args) == 1 {
					q.Peer = tiers.SiteID(args[0])
				}
				s, err := c.SyncStatus(ctx, q)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
				}
				return printSync(cmd.OutOrStdout(), s, q.Streams)
			})
		},
	}
}

// atMostArgs is cobra.MaximumNArgs with this command's kind of error.
func atMostArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("%s takes at most %d argument(s), got %d; see %s --help", cmd.CommandPath(), n, len(args), cmd.CommandPath())
		}
		return nil
	}
}

func printSync(w io.Writer, s api.SyncStatus, streams bool) error {
	var links, rows [][]string
	for _, l := range s.Links {
		out, in, oldest := "?", "?", "-"
		if l.Out != nil && l.In != nil {
			out, in, oldest = owed(*l.Out), owed(*l.In), age(l.Out.Oldest, s.Time)
		}
		equal := "no"
		if l.Equal {
			equal = "equal"
		}
		links = append(links, []string{
			string(l.Peer), l.PeerName, l.State, ago(l.LastContact, s.Time), out, in, oldest, equal, ago(l.ProvenEqualAt, s.Time),
			size(uint64(l.Rate.OutNow), false) + "/s", size(uint64(l.Rate.InNow), false) + "/s", fmt.Sprintf("%.1f ms", l.RTTMS), l.LastError,
		})
		for _, st := range l.Streams {
			rows = append(rows, []string{string(l.Peer), st.Stream, fmt.Sprint(st.Lane), st.State, owed(st.Out), owed(st.In), age(st.Out.Oldest, s.Time)})
		}
	}
	if err := table(w, []string{"PEER", "NAME", "LINK", "CONTACT", "OWED OUT", "OWED IN", "OLDEST", "NOW", "PROVEN", "OUT", "IN", "RTT", "LAST ERROR"}, links); err != nil || !streams {
		return err
	}
	sayln(w)
	return table(w, []string{"PEER", "STREAM", "LANE", "STATE", "OWED OUT", "OWED IN", "OLDEST"}, rows)
}

func owed(o api.Owed) string {
	if o.Records == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", o.Records, size(o.Bytes, o.BytesEstimated))
}

func age(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return now.Sub(*t).Round(time.Second).String()
}

func newSyncProve(g *global) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "prove PEER", Short: "Get a certificate, signed by both ends, that they hold the same", Args: exactArgs(1),
		Long: `Asks the peer over the live link. It signs only what it holds itself at that
moment, of all the streams that both sites may hold; the certificate lists them
with their vectors and digests. While both ends write it is asked again for a few
seconds. When they are not equal, what differs is listed and the exit code is 9.
Without -f the certificate goes to standard output.`,
		Example: "  tiermesh sync prove 500000 -f proof.json\n  tiermesh sync verify proof.json --topology topology.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.Prove(ctx, tiers.SiteID(args[0]))
				if err != nil {
					return err
				}
				if r.Equal {
					return writeCertificate(cmd, file, r.Certificate)
				}
				return printDifferences(cmd.OutOrStdout(), g.output, args[0], r)
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to write the certificate to")
	return cmd
}

func writeCertificate(cmd *cobra.Command, file string, certificate []byte) error {
	certificate = append(certificate, '\n')
	if file == "" {
		_, err := cmd.OutOrStdout().Write(certificate)
		return err
	}
	c, err := federation.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	if err := writeNew(file, func(w io.Writer) error { _, err := w.Write(certificate); return err }); err != nil {
		return err
	}
	return printCertificate(cmd.OutOrStdout(), c)
}

func printCertificate(w io.Writer, c *federation.Certificate) error {
	records := uint64(0)
	for _, v := range c.Vectors {
		for _, h := range v {
			records += h.Seq
		}
	}
	_, err := say(w, "sites %s and %s of federation %s held the same: %s, %s, asked %s, signed %s, topology %d\n",
		c.Asker, c.Peer, c.Federation, count(len(c.Vectors), "stream"), count(records, "record"), localTime(c.AskedMS),
		localTime(c.AnsweredMS), c.TopologyVersion)
	return err
}

func printDifferences(w io.Writer, output, peer string, r api.ProveResult) error {
	if output == "json" {
		if err := json.NewEncoder(w).Encode(r); err != nil {
			return err
		}
		return errUnequal
	}
	if r.Reason != "" {
		return fmt.Errorf("%w: site %s: %s", errUnequal, peer, r.Reason)
	}
	var rows [][]string
	for _, d := range r.Differences {
		what := fmt.Sprintf("%s lacks %d to %d", peer, d.Theirs+1, d.Mine)
		switch {
		case d.Theirs > d.Mine:
			what = fmt.Sprintf("this site lacks %d to %d", d.Mine+1, d.Theirs)
		case d.Theirs == d.Mine:
			what = fmt.Sprintf("fork: the records up to %d differ", d.Mine)
		}
		rows = append(rows, []string{d.Stream, d.Author, fmt.Sprint(d.Mine), fmt.Sprint(d.Theirs), what})
	}
	if r.More {
		rows = append(rows, []string{"…", "", "", "", "and more"})
	}
	if err := table(w, []string{"STREAM", "AUTHOR", "HERE", "THERE", "DIFFERENCE"}, rows); err != nil {
		return err
	}
	return errUnequal
}

func newSyncVerify(g *global) *cobra.Command {
	var topology string
	cmd := &cobra.Command{
		Use: "verify FILE --topology TOPOLOGY", Short: "Check a certificate, without a node", Args: exactArgs(1),
		Long: `Recomputes every digest from the certificate's vectors and checks both sites'
signatures against the keys in the topology file. The exit code is 9 when it does
not hold.`,
		Example: "  tiermesh sync verify proof.json --topology topology.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := readTopology(topology)
			if err != nil {
				return err
			}
			b, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("%w: %w", errInput, err)
			}
			c, err := federation.ParseCertificate(b)
			if err == nil {
				err = c.Verify(t)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if g.output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(c)
			}
			return printCertificate(cmd.OutOrStdout(), c)
		},
	}
	cmd.Flags().StringVar(&topology, "topology", "", "topology file with the sites' keys")
	require(cmd, "topology")
	return cmd
}

func newSyncForecast(g *global) *cobra.Command {
	var rate byteRate
	cmd := &cobra.Command{
		Use: "forecast PEER", Short: "What a reconnection would move: records, bytes and seconds for each lane", Args: exactArgs(1),
		Long: `From what both ends are known to hold and the rate of the last transfer, or from
--rate. Bytes are of records, before compression. A tilde marks an estimate; all
seconds are estimates, counted from the reconnection on, and a lane waits for the
ones above it.`,
		Example: "  tiermesh sync forecast 500101\n  tiermesh sync forecast 500101 --rate 500kbit",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				f, err := c.Forecast(ctx, api.ForecastQuery{Peer: tiers.SiteID(args[0]), RateBPS: float64(rate)})
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(f)
				}
				return printForecast(cmd.OutOrStdout(), f)
			})
		},
	}
	cmd.Flags().Var(&rate, "rate", "rate to reckon with, such as 500kbit or 2MB (a second)")
	return cmd
}

func printForecast(w io.Writer, f api.Forecast) error {
	rate := "no rate was measured yet: --rate gives one"
	if f.RateSource != "unknown" {
		rate = fmt.Sprintf("rate %s: %s/s out, %s/s in", f.RateSource, size(uint64(f.Rate.OutLast), true), size(uint64(f.Rate.InLast), true))
	}
	say(w, "site %s and %s, as known from the %s session; %s; round trip %.1f ms\n", f.Site, f.Peer, strings.TrimSuffix(f.Basis, "-session"), rate, f.RTTMS)
	done := func(m api.Move) string {
		if m.DoneS == nil {
			return "?"
		}
		return fmt.Sprintf("~%.1f s", *m.DoneS)
	}
	var rows [][]string
	for _, l := range f.Lanes {
		if l.Out.Records+l.In.Records > 0 {
			rows = append(rows, []string{
				fmt.Sprint(l.Lane), strings.Join(l.Classes, " "), fmt.Sprint(l.Out.Records), size(l.Out.Bytes, l.Out.BytesEstimated), done(l.Out),
				fmt.Sprint(l.In.Records), size(l.In.Bytes, l.In.BytesEstimated), done(l.In),
			})
		}
	}
	if len(rows) == 0 {
		_, err := sayln(w, "nothing would move")
		return err
	}
	return table(w, []string{"LANE", "CLASSES", "OUT", "BYTES", "DONE", "IN", "BYTES", "DONE"}, rows)
}

// byteRate is a flag of bytes a second.
type byteRate float64

// String implements pflag.Value.
func (r *byteRate) String() string {
	if *r == 0 {
		return ""
	}
	return size(uint64(*r), false) + "/s"
}

// Type implements pflag.Value.
func (*byteRate) Type() string { return "rate" }

// Set implements pflag.Value.
func (r *byteRate) Set(s string) error {
	for _, u := range []struct {
		unit  string
		bytes float64
	}{{"kbit", 125}, {"Mbit", 125e3}, {"Gbit", 125e6}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"bit", 0.125}, {"B", 1}} {
		if number, ok := strings.CutSuffix(s, u.unit); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err == nil && n > 0 && n < 1e12 {
				*r = byteRate(n * u.bytes)
				return nil
			}
			break
		}
	}
	return fmt.Errorf("%q: want a rate such as 500kbit or 2MB", s)
}
