package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// errFindings ends a scrub that found damage.
var errFindings = errors.New("damage was found: see above; nothing was deleted; to mend a node from the others of its site run tiermesh repair, for a site of one node see tiermesh salvage --help")

func newScrub(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "scrub", Short: "Read everything at a node again and name what is damaged", Args: exactArgs(0),
		Long: `Reads every chain and document of the node's store again, recomputes hashes,
heads and checkpoints, and names what does not fit: file, stream, author, record
or document. It reads every table file whole, those of the node's snapshot, too,
and compares with the other nodes of the site. Nothing is changed. A node does
the same by itself once a day, and raises an alarm that says what to run.`,
		Example: "  tiermesh scrub --timeout 10m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.Scrub(ctx)
				if err != nil {
					return err
				}
				w := cmd.OutOrStdout()
				if g.output == "json" {
					if err := json.NewEncoder(w).Encode(r); err != nil {
						return err
					}
				} else {
					printFindings(w, r.Findings)
					fmt.Fprintf(w, "%s, %s, %s, %s read in %.1f s: %s\n",
						count(r.Chains, "chain"), count(r.Records, "record"), count(r.Checkpoints, "checkpoint"), count(r.Documents, "document"), r.TookS, count(len(r.Findings), "finding"))
				}
				if len(r.Findings) > 0 {
					return errFindings
				}
				return nil
			})
		},
	}
}

func newBackup(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup", Short: "Make and check backups of a site",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBackupCreate(g), &cobra.Command{
		Use: "check FILE", Short: "Check that a backup is whole, and say what it is", Args: exactArgs(1),
		Example: "  tiermesh backup check site.backup",
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := checkBackup(args[0])
			if err != nil {
				return err
			}
			return printBackup(cmd.OutOrStdout(), args[0], info)
		},
	})
	return cmd
}

func newBackupCreate(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "create FILE", Short: "Copy the site's state to a file while the site goes on", Args: exactArgs(1),
		Long: `Copies a consistent state of the site to a new file: a tar archive that ends in a
manifest with the SHA-256 of every file. It is checked when it is written. With
"-" the archive goes to standard output; check it where it arrives.`,
		Example: "  tiermesh backup create /mnt/usb/500101.backup --timeout 10m\n  tiermesh backup create - | ssh vault 'cat > 500101.backup'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				if args[0] == "-" {
					return c.Backup(ctx, raw(cmd.OutOrStdout()))
				}
				if err := writeNew(args[0], func(w io.Writer) error { return c.Backup(ctx, w) }); err != nil {
					return err
				}
				info, err := checkBackup(args[0])
				if err != nil {
					return err
				}
				return printBackup(cmd.OutOrStdout(), args[0], info)
			})
		},
	}
}

func checkBackup(path string) (info replication.BackupInfo, err error) {
	f, err := os.Open(path)
	if err != nil {
		return info, fmt.Errorf("%w: %w", errInput, err)
	}
	defer func() { _ = f.Close() }()
	if info, err = replication.CheckBackup(f); err != nil {
		return info, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

func printBackup(w io.Writer, path string, i replication.BackupInfo) error {
	_, err := fmt.Fprintf(w, "%s: site %s of federation %s, incarnation %d, made %s: whole\n",
		path, i.Site, i.Federation, i.Incarnation, localTime(i.TimeMS))
	return err
}

func newRestore() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "restore FILE --config CONFIG", Short: "Make a node's data directory from a backup", Args: exactArgs(1),
		Long: `Makes the data directory that the configuration names from a backup of the same
site; the directory must not exist or be empty. The site goes on in a new
incarnation: what it had shipped after the backup its peers give back, and
nothing that it writes from now on can contradict it. Start the node afterwards.`,
		Example: "  tiermesh restore /mnt/usb/500101.backup --config /etc/tiermesh/node.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := readConfig(config)
			if err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return err
			}
			creds, err := identity.Load(cfg.Credentials)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("%w: %w", errInput, err)
			}
			defer func() { _ = f.Close() }()
			info, err := replication.Restore(f, cfg.Dir, creds.ID.Federation, creds.ID.Site)
			if err != nil {
				return fmt.Errorf("restore %s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "site %s restored to %s as of %s, in incarnation %d\n",
				info.Site, cfg.Dir, localTime(info.TimeMS), info.Incarnation)
			return err
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "the node's configuration file")
	require(cmd, "config")
	return cmd
}

func newRecover() *cobra.Command {
	var config, confirm string
	cmd := &cobra.Command{
		Use: "recover --config CONFIG --confirm SITE", Short: "Go on with one node of a site that lost its majority for good", Args: exactArgs(0),
		Long: `Makes the node's data directory a group of its own, in a new incarnation, from its
store and all of its log. Use it when a majority of the site's nodes is lost for
good and no backup is newer. What only the lost nodes held is lost; what the site
had shipped its peers give back.

The other nodes must never be started again with their old directories: they
would be a second site of the same name. Empty them; they join again.

The state before is kept in recover.old in the data directory. --confirm takes
the site's code, so that this is never done to another site by mistake.`,
		Example: "  tiermesh recover --config /etc/tiermesh/node.json --confirm 500101",
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := confirmed(config, confirm, "recover")
			if err != nil {
				return err
			}
			info, err := replication.Recover(at)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "site %s recovered: %s, %d of the log's entries replayed, incarnation %d; the old state is in %s\n",
				confirm, count(info.Records, "record"), info.Replayed, info.Incarnation, info.Old)
			return err
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "the node's configuration file")
	cmd.Flags().StringVar(&confirm, "confirm", "", "the code of the site, typed out")
	require(cmd, "config")
	return cmd
}

// confirmed reads the configuration of a node that is down and returns where it
// is, when the site's code was typed to confirm what is to be done to it.
func confirmed(config, confirm, verb string) (at replication.RecoverConfig, err error) {
	cfg, err := readConfig(config)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		return at, err
	}
	creds, err := identity.Load(cfg.Credentials)
	if err != nil {
		return at, err
	}
	if confirm != string(creds.ID.Site) {
		return at, fmt.Errorf("%w: this is a node of site %s: to %s it type --confirm %s", errInput, creds.ID.Site, verb, creds.ID.Site)
	}
	return replication.RecoverConfig{Dir: cfg.Dir, Federation: creds.ID.Federation, Site: creds.ID.Site}, nil
}
