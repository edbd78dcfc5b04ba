//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/netns"
)

// startNetns starts a scenario in network namespaces, whose files are in a
// directory.
func startNetns(t *testing.T, dir, file string) *process {
	t.Helper()
	if err := netns.Check(); err != nil {
		t.Skip(err)
	}
	t.Setenv("TMPDIR", dir)
	return start(t, "testbed", "run", file, "--mode", "netns", "--out", filepath.Join(dir, "reports"))
}

// prefixIn returns the prefix of the namespaces of the world in a directory, empty
// while there is none.
func prefixIn(dir string) string {
	records, _ := filepath.Glob("/run/tiermesh-netns/*")
	for _, r := range records {
		if b, err := os.ReadFile(r); err == nil && strings.HasPrefix(string(b), dir+"/") {
			return filepath.Base(r)
		}
	}
	return ""
}

func namespacesOf(prefix string) []string {
	found, _ := filepath.Glob("/run/netns/" + prefix + "-*")
	return found
}

// TestNetnsPartition plays the scenario of a partition with real processes.
func TestNetnsPartition(t *testing.T) {
	dir := t.TempDir()
	p := startNetns(t, dir, "../../testbed/scenarios/partition.txt")
	for range p.lines { // to its end
	}
	if err := p.Wait(); err != nil || !strings.Contains(p.stdout.String(), "holds ") || !strings.Contains(p.stdout.String(), "60 of 60 acknowledged") {
		t.Errorf("%v: %s", err, p.stdout.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "reports", "partition-netns", "report.json")); err != nil {
		t.Error(err)
	}
}

// TestNetnsInterrupted interrupts a scenario while its sites start and while they
// work: it says so, writes its report, and leaves nothing behind.
func TestNetnsInterrupted(t *testing.T) {
	for _, row := range []struct{ when, pattern string }{
		{"starting", "tiermesh-testbed-*/ca/ca.crt"},
		{"working", "tiermesh-testbed-*/500101/data/raft.db"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "long.txt")
		writeText(t, file, "site 500000 city\nsite 500101 district under 500000\nreport 5/s at districts for 5m\nafter 5m\nuntil acknowledged within 10s\n")
		p := startNetns(t, dir, file)
		until(t, row.when, func() bool {
			found, _ := filepath.Glob(filepath.Join(dir, row.pattern))
			return len(found) > 0
		})
		prefix := prefixIn(dir)
		if prefix == "" || len(namespacesOf(prefix)) == 0 {
			t.Fatal("the test proves nothing: no namespace")
		}
		if err := p.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		for range p.lines { // to its end
		}
		var exit *exec.ExitError
		if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
			t.Errorf("interrupted while %s: %v", row.when, err)
		}
		if left := namespacesOf(prefix); len(left) > 0 || prefixIn(dir) != "" {
			t.Errorf("interrupted while %s: left %v", row.when, left)
		}
		if _, err := os.Stat(filepath.Join(dir, "reports", "long-netns", "report.json")); err != nil {
			t.Errorf("interrupted while %s: %v", row.when, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "tiermesh-testbed-*")); len(left) > 0 {
			t.Errorf("interrupted while %s: left %v", row.when, left)
		}
	}
}

// TestNetnsMissing hides the tools: one line says what is missing, and nothing is
// written.
func TestNetnsMissing(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("without root, root is what is missing")
	}
	t.Setenv("PATH", t.TempDir())
	var said strings.Builder
	code := execute(t.Context(), []string{"testbed", "run", "../../testbed/scenarios/partition.txt", "--mode", "netns", "--out", filepath.Join(dir, "reports")}, nil, io.Discard, &said)
	if code == exitOK || strings.Count(said.String(), "\n") != 1 || !strings.Contains(said.String(), "apt-get install iproute2") {
		t.Errorf("exit code %d: %s", code, said.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "reports")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reports: %v", err)
	}
}
