package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

func newCA(g *global) *cobra.Command {
	ca := &cobra.Command{
		Use: "ca", Short: "The federation's certificate authority",
		Long: `Every node proves itself with a certificate of the federation's authority, and
every site signs its records with a key of its own. Keep ca.key offline.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	ca.AddCommand(newCAInit(), newCAIssue(), newCAShow(g))
	return ca
}

func newCAInit() *cobra.Command {
	var dir, federation string
	cmd := &cobra.Command{
		Use: "init --federation NAME --dir DIR", Short: "Create an authority", Args: exactArgs(0),
		Example: "  tiermesh ca init --federation chongqing --dir ca",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := identity.InitCA(dir, federation, time.Now()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "authority of federation %s written to %s\n", federation, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&federation, "federation", "", "name of the federation: a-z, 0-9, '-' and '.'")
	cmd.Flags().StringVar(&dir, "dir", "ca", "directory for ca.crt and ca.key")
	require(cmd, "federation")
	return cmd
}

func newCAIssue() *cobra.Command {
	var dir, site, out, topology, shared string
	var node uint32
	cmd := &cobra.Command{
		Use: "issue --site CODE --out DIR", Short: "Issue a node's certificate and its site's key, or renew the certificate", Args: exactArgs(0),
		Long: `Writes node.crt, node.key, ca.crt, site.key and site.pub, all or none. A directory
that holds those of the same node gets a new certificate and keeps its keys. All
nodes of a site share one site key: give the second node the first one's with
--site-key-from. With --topology the site must be in that topology file, and its
public key is entered there, which every other site needs to verify its records;
the file's version is raised when that changes anything.`,
		Example: `  tiermesh ca issue --site 500101 --out credentials/500101-1 --topology topology.json
  tiermesh ca issue --site 500101 --node 2 --out credentials/500101-2 --site-key-from credentials/500101-1
  tiermesh ca issue --site 500101 --out credentials/500101-1   # renew`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ca, err := identity.OpenCA(dir)
			if err != nil {
				return err
			}
			cfg := identity.IssueConfig{
				ID:     identity.ID{Federation: ca.Federation, Site: tiers.SiteID(site), Node: node},
				OutDir: out, SiteKeyFrom: shared, Now: time.Now(),
			}
			say := func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
			if topology != "" {
				return issueListed(ca, cfg, topology, say)
			}
			if err := plausible(cfg.ID.Site); err != nil {
				return err
			}
			if err := ca.Issue(cfg); err != nil {
				return err
			}
			say("%s written to %s", cfg.ID, out)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "ca", "the authority's directory")
	f.StringVar(&site, "site", "", "division code of the site, required")
	f.Uint32Var(&node, "node", 1, "number of the node inside its site, from 1")
	f.StringVar(&out, "out", "", "directory to write to, required")
	f.StringVar(&shared, "site-key-from", "", "credentials directory of another node of the site, whose site key to share")
	f.StringVar(&topology, "topology", "", "topology file to enter the site's public key into")
	require(cmd, "site", "out")
	return cmd
}

// plausible refuses what cannot be a division code (GB/T 2260, GB/T 10114), for
// which a certificate is issued without a topology that would say so. A code with
// letters is a federation's own, and is let through.
func plausible(site tiers.SiteID) error {
	if err := site.Validate(); err != nil {
		return err
	}
	code := string(site)
	if strings.Trim(code, "0123456789") != "" {
		return nil
	}
	if len(code) != 6 && len(code) != 9 || code < "11" || code >= "83" {
		return fmt.Errorf("%w: --site %s: a division code has 6 digits for a city or district and 9 for a township, as 500101 and 500101001, "+
			"and begins with its province's 11 to 82; if the site is called that, name the topology file that lists it with --topology", errInput, code)
	}
	return nil
}

// issueListed issues credentials for a site of a topology file, and enters its key
// there: both, or neither.
func issueListed(ca *identity.CA, cfg identity.IssueConfig, path string, say func(format string, args ...any)) error {
	t, err := readTopology(path)
	if err != nil {
		return err
	}
	doc := t.Doc()
	i := slices.IndexFunc(doc.Sites, func(s tiers.Site) bool { return s.ID == cfg.ID.Site })
	switch {
	case doc.Federation != ca.Federation:
		return fmt.Errorf("%w: topology %s is of federation %s, the authority of %s", errInput, path, doc.Federation, ca.Federation)
	case i < 0:
		return fmt.Errorf("%w: topology %s does not list site %s; add it first", errInput, path, cfg.ID.Site)
	case doc.Sites[i].Retired:
		return fmt.Errorf("%w: site %s is retired in topology %s: no node may run it", errInput, cfg.ID.Site, path)
	}
	row := &doc.Sites[i]
	changed, prepared := false, path+".tmp"
	cfg.Check = func(key []byte) error {
		if len(row.Key) > 0 {
			if !bytes.Equal(row.Key, key) {
				return fmt.Errorf("%w: topology %s has another key of site %s, by which its records are verified: share it with --site-key-from, "+
					"or --out the directory that has it; if it is lost, delete \"key\" from the site's row first", errInput, path, row.ID)
			}
			return nil
		}
		row.Key, changed = key, true
		doc.Version++
		return writeTopology(prepared, doc)
	}
	defer func() { _ = os.Remove(prepared) }() // what was not put in place
	if err := ca.Issue(cfg); err != nil {
		return err
	}
	say("%s written to %s", cfg.ID, cfg.OutDir)
	if len(row.Nodes) > 0 && !slices.ContainsFunc(row.Nodes, func(n tiers.NodeAddr) bool { return n.Node == cfg.ID.Node }) {
		say("note: topology %s lists no node %d of site %s: enter its address there", path, cfg.ID.Node, row.ID)
	}
	if !changed {
		say("topology %s has the site's key already and stays at version %d", path, doc.Version)
		return nil
	}
	if err := os.Rename(prepared, path); err != nil {
		return fmt.Errorf("%w: the key is not in the topology yet, issue again: %w", errInput, err)
	}
	say("the key of %s is entered in topology %s, now version %d", row.ID, path, doc.Version)
	return nil
}

// writeTopology writes a topology to a file, durably.
func writeTopology(path string, doc tiers.TopologyDoc) error {
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%w: write %s: %w", errInput, path, err)
	}
	return nil
}

func newCAShow(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "show DIR", Short: "Say whose credentials a directory holds, and until when", Args: exactArgs(1),
		Long: `Reads a node's credentials or an authority's directory: whose they are, until when
they are valid, and by which keys others know them. Exits with 3 when they cannot
be used, such as after their time, and says why.`,
		Example: "  tiermesh ca show credentials/500101-1\n  tiermesh ca show ca -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := identity.Describe(args[0])
			if err != nil {
				return err
			}
			if g.output == "json" {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(d); err != nil {
					return err
				}
			} else {
				printCredentials(cmd.OutOrStdout(), d, time.Now())
			}
			if d.Problem != "" {
				return fmt.Errorf("%w: %s", errInput, d.Problem)
			}
			return nil
		},
	}
}

func printCredentials(w io.Writer, d identity.Description, now time.Time) {
	what := "node"
	if d.Authority {
		what = "authority"
	}
	rows := [][2]string{
		{what, d.ID},
		{"valid from", clock(d.NotBefore)},
		{"valid until", clock(d.NotAfter) + ", " + untilText(d.NotAfter, now)},
		{"serial", d.Serial}, {"key", "SHA-256 " + d.Key},
	}
	if d.SiteKey != "" {
		rows = append(rows, [2]string{"site key", "Ed25519 " + d.SiteKey})
	}
	rows = append(rows, [2]string{"issuer", d.Issuer}, [2]string{"issuer's key", "SHA-256 " + d.IssuerKey})
	for _, r := range rows {
		fmt.Fprintf(w, "%-13s %s\n", r[0], r[1])
	}
}

// untilText says how far away the end of a certificate is.
func untilText(end, now time.Time) string {
	left := end.Sub(now)
	if left < 0 {
		return fmt.Sprintf("ended %s ago", count(int(-left/day), "day"))
	}
	return fmt.Sprintf("%s left", count(int(left/day), "day"))
}

const day = 24 * time.Hour

// require marks flags that a command cannot do without.
func require(cmd *cobra.Command, names ...string) {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, n := range names {
			if !cmd.Flags().Changed(n) {
				return usagef("--%s is missing; see %s --help", n, cmd.CommandPath())
			}
		}
		return nil
	}
}

func readTopology(path string) (*tiers.Topology, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	t, err := tiers.ParseTopology(b)
	if err != nil {
		return nil, fmt.Errorf("topology %s: %w", path, err)
	}
	return t, nil
}

// exactArgs is cobra.ExactArgs with this command's kind of error.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %d argument(s), got %d; see %s --help", cmd.CommandPath(), n, len(args), cmd.CommandPath())
		}
		return nil
	}
}
