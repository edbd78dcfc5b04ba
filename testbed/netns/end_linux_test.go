package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/netns"
	"github.com/tiermesh/tiermesh/testbed/scenario"
)

// TestCancelled ends the start half-way: Open leaves nothing behind by itself.
func TestCancelled(t *testing.T) {
	needs(t)
	ctx, cancel := context.WithCancel(limited(t))
	w := netns.New(netns.Config{Dir: t.TempDir(), Command: command(t)})
	var pids []string
	err := w.Open(ctx, script(t, federation), func(int, int) {
		pids = append(pids, w.Pids()...)
		cancel()
	})
	// With the last site up nothing is left to cancel.
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	if err == nil {
		err = w.Close()
		if err != nil {
			t.Error(err)
		}
	}
	if len(pids) == 0 {
		t.Error("nothing was started")
	}
	nothingLeft(t, w.Prefix(), pids)
}

// TestBadCommand: a node that does not come up is named, with its last words.
func TestBadCommand(t *testing.T) {
	needs(t)
	w := netns.New(netns.Config{Dir: t.TempDir(), Command: "/bin/false"})
	err := w.Open(limited(t), script(t, federation), nil)
	if err == nil || !strings.Contains(err.Error(), "node 1 of site 500") {
		t.Errorf("open: %v", err)
	}
	nothingLeft(t, w.Prefix(), nil)
}

// TestKilled kills the process of a world without warning: its nodes die with it,
// and the next world removes the rest, but not what belongs to one that lives.
func TestKilled(t *testing.T) {
	alive := open(t, "site 500000 city\n")
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envWorld+"="+dir, "TIERMESH_TEST_COMMAND="+command(t))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err := errors.Join(err, child.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	f := strings.Fields(line)
	prefix, pids := f[0], f[1:]
	for _, pid := range pids {
		alive.until("node "+pid+" to die with its parent", func() bool { return netns.Gone(pid) })
	}
	if len(pids) != 4 || len(netns.Left(prefix)) == 0 || !netns.Mounted(dir) {
		t.Fatalf("the test proves nothing: %q, left %v", line, netns.Left(prefix))
	}
	open(t, "site 500000 city\n")
	nothingLeft(t, prefix, pids)
	if netns.Mounted(dir) {
		t.Error("a disk is left mounted")
	}
	alive.report(city, "alive")
}

// waitToBeKilled is the child of TestKilled.
func waitToBeKilled(dir string) {
	w := netns.New(netns.Config{Dir: dir, Command: os.Getenv("TIERMESH_TEST_COMMAND")})
	s, err := scenario.Parse("test", strings.NewReader(federation+"disk-full 500101001\n"))
	if err == nil {
		err = w.Open(context.Background(), s, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, w.Prefix(), strings.Join(w.Pids(), " "))
	select {}
}
