package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/archive"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/bench"
	"github.com/tiermesh/tiermesh/testbed/city"
	"github.com/tiermesh/tiermesh/testbed/demo"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// The exit codes; the table in exitTable documents them.
const (
	exitOK = iota
	exitInternal
	exitUsage
	exitInvalid
	exitUnreachable
	exitNotFound
	exitRejected
	exitUnknown
	exitBusy
	exitProof
	exitInterrupted = 130
)

const defaultTimeout = 10 * time.Second

var exitTable = []struct {
	code int
	text string
}{
	{exitOK, "done"},
	{exitInternal, "an error that is nobody's input: please report it"},
	{exitUsage, "wrong command line"},
	{exitInvalid, "invalid input, configuration, certificate or directory"},
	{exitUnreachable, "no node answers at --api, or it cannot serve now"},
	{exitNotFound, "the site does not hold what was asked for"},
	{exitRejected, "the write may not be made as things stand, or there is nothing to repair; it had no effect"},
	{exitUnknown, "outcome unknown: retry with the same --key, which is safe"},
	{exitBusy, "a port, directory or socket is held by another process"},
	{exitProof, "a check does not hold: the demo's proof, sync prove or verify, a bundle that was left out in part; a scrub, repair or salvage leaves damage"},
	{exitInterrupted, "interrupted"},
}

// usageError is a mistake in the command line.
type usageError struct{ text string }

// Error implements error.
func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// errProof ends a demo whose table does not hold.
var errProof = errors.New("the proof does not hold: see the table")

// errInput reports a file or value that a command cannot use.
var errInput = errors.New("invalid input")

// exitCode maps an error to its exit code; the one place that does.
func exitCode(err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	for _, c := range []struct {
		err  error
		code int
	}{
		{errProof, exitProof}, {errFindings, exitProof}, {errLost, exitProof}, {errUnequal, exitProof}, {errLeftOut, exitProof}, {federation.ErrCertificate, exitProof},
		{store.ErrLocked, exitBusy}, {transport.ErrBusyPort, exitBusy}, {api.ErrBusy, exitBusy},
		{api.ErrUnreachable, exitUnreachable}, {api.ErrUnavailable, exitUnreachable},
		{api.ErrNotFound, exitNotFound}, {api.ErrUnauthorized, exitInvalid}, {api.ErrForbidden, exitInvalid}, {api.ErrRejected, exitRejected}, {api.ErrUnknownOutcome, exitUnknown},
		{federation.ErrBundle, exitInvalid}, {federation.ErrForeign, exitInvalid},
		{errInput, exitInvalid}, {api.ErrInvalid, exitInvalid}, {api.ErrAddress, exitInvalid}, {node.ErrConfig, exitInvalid}, {demo.ErrConfig, exitInvalid}, {city.ErrDir, exitInvalid}, {scenario.ErrScript, exitInvalid}, {city.ErrFiles, exitInvalid}, {bench.ErrConfig, exitInvalid},
		{store.ErrForeign, exitInvalid}, {store.ErrFormat, exitInvalid}, {replication.ErrBehind, exitInvalid},
		{replication.ErrNoBackup, exitInvalid}, {replication.ErrRecovering, exitInvalid}, {replication.ErrLogDamaged, exitInvalid},
		{replication.ErrFormat, exitInvalid}, {replication.ErrRepair, exitRejected}, {replication.ErrDamaged, exitInvalid}, {store.ErrCorrupt, exitInvalid},
		{archive.ErrDamaged, exitInvalid}, {archive.ErrExists, exitInvalid},
		{identity.ErrCredentials, exitInvalid}, {identity.ErrExpired, exitInvalid}, {identity.ErrUntrusted, exitInvalid},
		{identity.ErrFederation, exitInvalid}, {identity.ErrNoIdentity, exitInvalid}, {identity.ErrExists, exitInvalid},
		{transport.ErrConfig, exitInvalid}, {tiers.ErrInvalidTopology, exitInvalid}, {tiers.ErrStaleTopology, exitInvalid}, {tiers.ErrInvalidID, exitInvalid},
		{context.Canceled, exitInterrupted}, {context.DeadlineExceeded, exitUnreachable},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return exitInternal
}

func exitCodesHelp() *cobra.Command {
	var b strings.Builder
	b.WriteString("Exit codes of every command:\n\n")
	for _, e := range exitTable {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.text)
	}
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: strings.TrimRight(b.String(), "\n")}
}

// duration is a positive duration flag.
type duration time.Duration

// String implements pflag.Value.
func (d *duration) String() string { return time.Duration(*d).String() }

// Type implements pflag.Value.
func (*duration) Type() string { return "duration" }

// Set implements pflag.Value.
func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return fmt.Errorf("%q: want a positive duration such as 10s", s)
	}
	*d = duration(v)
	return nil
}
