package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/identity"
)

func newCA() *cobra.Command {
	ca := &cobra.Command{
		Use: "ca", Short: "The federation's certificate authority",
		Long: `Every node proves itself with a certificate of the federation's authority, and
every site signs its records with a key of its own. Keep ca.key offline.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	ca.AddCommand(newCAInit(), newCAIssue())
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
		Use: "issue --site CODE --out DIR", Short: "Issue a node's certificate and its site's key", Args: exactArgs(0),
		Long: `Writes node.crt, node.key, ca.crt, site.key and site.pub. All nodes of a site
share one site key: give the second node the first one's with --site-key-from.
With --topology the site's public key is entered into that topology file, which
every other site needs to verify its records.`,
		Example: "  tiermesh ca issue --dir ca --site 500101 --node 1 --out credentials/500101-1 --topology topology.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ca, err := identity.OpenCA(dir)
			if err != nil {
				return err
			}
			id := identity.ID{Federation: ca.Federation, Site: tiers.SiteID(site), Node: node}
			if err := ca.Issue(identity.IssueConfig{ID: id, OutDir: out, SiteKeyFrom: shared, Now: time.Now()}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s written to %s\n", id, out)
			if topology == "" {
				return nil
			}
			return enterKey(topology, id.Site, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "ca", "the authority's directory")
	f.StringVar(&site, "site", "", "division code of the site")
	f.Uint32Var(&node, "node", 1, "number of the node inside its site, from 1")
	f.StringVar(&out, "out", "", "directory to write to")
	f.StringVar(&shared, "site-key-from", "", "credentials directory whose site key to share")
	f.StringVar(&topology, "topology", "", "topology file to enter the site's public key into")
	require(cmd, "site", "out")
	return cmd
}

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

// enterKey writes a site's public key into a topology file and raises its
// version.
func enterKey(path string, site tiers.SiteID, credentials string) error {
	creds, err := identity.Load(credentials)
	if err != nil {
		return err
	}
	t, err := readTopology(path)
	if err != nil {
		return err
	}
	doc := t.Doc()
	found := false
	for i := range doc.Sites {
		if doc.Sites[i].ID == site {
			doc.Sites[i].Key, found = creds.SitePublicKey(), true
		}
	}
	if !found {
		return fmt.Errorf("%w: topology %s does not list site %s; add it first", errInput, path, site)
	}
	doc.Version++
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", append(b, '\n'), 0o644); err != nil { //nolint:gosec // public keys
		return fmt.Errorf("%w: %w", errInput, err)
	}
	return os.Rename(path+".tmp", path)
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
