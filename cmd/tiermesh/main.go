package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	_ "time/tzdata" // the zones of files, on machines that have none
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
)

// ballastBytes are allocated and never touched, so that they take no memory. Most of
// a node's memory is Pebble's, which the collector does not see: for the few
// megabytes that are left it would run a hundred times a second under load, and take
// a sixth of the processor time. They let the heap grow by as much as they are.
const ballastBytes = 48 << 20

func main() {
	// package transport says it itself, once, through the node's logger
	if err := os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true"); err != nil {
		fmt.Fprintln(os.Stderr, "tiermesh:", err)
	}
	ballast := make([]byte, ballastBytes)
	code := execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	runtime.KeepAlive(ballast)
	os.Exit(code)
}

// execute executes one command line and returns its exit code. The first SIGINT,
// SIGTERM or SIGHUP ends the command in order, a second one at once; see [hangup].
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	ctx, end := withHangup(ctx)
	defer end()
	root := newRoot()
	out, diagnostics := newScreen(stdout), newScreen(stderr)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(diagnostics)
	err := checkText(args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err == nil {
		return exitOK
	}
	sayError(diagnostics, err)
	return exitCode(err)
}

// checkText refuses arguments that are not UTF-8: they would be sent as other texts.
func checkText(args []string) error {
	for i, a := range args {
		if !utf8.ValidString(a) {
			return usagef("argument %d, %.60q, is not UTF-8: set the terminal, or the script, to UTF-8", i+1, a)
		}
	}
	return nil
}

// global are the flags that every command has.
type global struct {
	api     string
	token   string
	output  string
	zone    string
	read    string
	timeout duration
}

func newRoot() *cobra.Command {
	g := &global{timeout: duration(defaultTimeout)}
	root := &cobra.Command{
		Use:   "tiermesh",
		Short: "A federated three-tier data mesh that works with every link cut",
		Long: `tiermesh runs the sites of a city's governance centre: one city, tens of
districts, a thousand townships. Each site is whole on its own; when links
return, everything fits together again, and you can prove it.

Try it:   tiermesh demo
Run it:   tiermesh ca init, tiermesh ca issue, tiermesh node run
See it:   tiermesh status, tiermesh event list, tiermesh track list
Prove it: tiermesh sync prove, tiermesh sync status, tiermesh bundle export`,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; see %s --help", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	def := os.Getenv("TIERMESH_API")
	if def == "" {
		def = "unix:/run/tiermesh/api.sock"
	}
	flags.StringVar(&g.api, "api", def, "address of the node's API: unix:/path or host:port; $TIERMESH_API")
	flags.StringVar(&g.token, "token-file", os.Getenv("TIERMESH_TOKEN_FILE"), "file of the token that a node asks for over a port: api.token in its directory; $TIERMESH_TOKEN_FILE")
	flags.StringVarP(&g.output, "output", "o", "table", "output format: table, wide or json")
	flags.StringVar(&g.read, "read", api.ReadStale, "what lists and views may miss: stale, leader or linearizable")
	flags.Var(&g.timeout, "timeout", "how long to wait for the node")
	flags.StringVar(&g.zone, "time-zone", os.Getenv("TIERMESH_TZ"),
		"zone of times shown and given: such as Asia/Shanghai, UTC, +08:00, or Local for the machine's; UTC+8 when left out; $TIERMESH_TZ")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if s, ok := cmd.OutOrStdout().(*screen); ok && g.output == "wide" {
			s.width = 0 // wide never cuts
		}
		if g.output != "table" && g.output != "wide" && g.output != "json" {
			return usagef("-o %q: want table, wide or json", g.output)
		}
		if g.read != api.ReadStale && g.read != api.ReadLeader && g.read != api.ReadLinearizable {
			return usagef("--read %q: want %s, %s or %s", g.read, api.ReadStale, api.ReadLeader, api.ReadLinearizable)
		}
		return setZone(g.zone)
	}
	root.AddCommand(
		newDemo(), newTestbed(), newBench(), newRaft(g), newSync(g), newBundle(g), newBackup(g), newRestore(), newRecover(), newScrub(g), newRepair(g), newSalvage(g), newCA(g), newAlarm(g), newNode(), newEngine(), newStatus(g), newEvent(g), newTrack(g), newTask(g), newPlan(g), newCalendar(g),
		newDispatch(g), newResponder(g), newPool(g), newOrder(g), newMode(g), newSilence(g),
		newTopology(g), newVersion(g), exitCodesHelp(),
		newIndicator(g), newReading(g), newBoard(g), newProposal(g), newCatalog(g), newResource(g), newApp(g), newCockpit(g), newReview(g),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	refuseUnknown(root)
	withShortIDs(g, root)
	return root
}
