package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
)

// siteDir prepares a site of n nodes in a directory: certificates, topology and
// a configuration for each node. The first node may form the group.
func siteDir(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	tool(t, "ca", "init", "--federation", "cq", "--dir", filepath.Join(dir, "ca"))
	var nodes []string
	for i := range n {
		args := []string{"ca", "issue", "--dir", filepath.Join(dir, "ca"), "--site", "500000", "--node", fmt.Sprint(i + 1), "--out", filepath.Join(dir, fmt.Sprint("c", i+1))}
		if i > 0 {
			args = append(args, "--site-key-from", filepath.Join(dir, "c1"))
		}
		tool(t, args...)
		port := freePort(t)
		nodes = append(nodes, fmt.Sprintf(`{"node":%d,"addr":"127.0.0.1:%d"}`, i+1, port))
		writeText(t, config(dir, i+1), fmt.Sprintf(`{"dir":"d%d","credentials":"c%d","topology":"topology.json","listen":"127.0.0.1:%d","api":"unix:%s"}`,
			i+1, i+1, port, filepath.Join(dir, fmt.Sprint(i+1, ".sock"))))
	}
	writeText(t, filepath.Join(dir, "topology.json"),
		`{"federation":"cq","version":1,"sites":[{"id":"500000","tier":"city","name":"重庆市","nodes":[`+strings.Join(nodes, ",")+`]}]}`)
	return dir
}

func config(dir string, node int) string { return filepath.Join(dir, fmt.Sprint(node, ".json")) }

func tool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("tiermesh", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", args, out)
	}
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T, dir string, node int) *api.Client {
	t.Helper()
	c := api.NewClient("unix:" + filepath.Join(dir, fmt.Sprint(node, ".sock")))
	t.Cleanup(c.Close)
	return c
}

// until polls for a minute.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited for: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestPausedLeader stops the leader's process past its lease. The others go on;
// resumed, it acknowledges nothing that they do not know, and every report that
// anybody acknowledged is there once.
func TestPausedLeader(t *testing.T) {
	dir := siteDir(t, 3)
	tool(t, "raft", "init", "--config", config(dir, 1))
	var nodes []*process
	for i := range 3 {
		nodes = append(nodes, start(t, "node", "run", "--config", config(dir, i+1)))
	}
	defer func() {
		for _, p := range nodes {
			_ = p.Process.Signal(syscall.SIGCONT)
			p.kill(t)
		}
	}()
	first := client(t, dir, 1)
	until(t, "three voters", func() bool {
		m, err := first.Members(context.Background())
		return err == nil && len(m) == 3 && !strings.Contains(fmt.Sprint(m), "non-voter")
	})
	if _, err := first.ChangeMember(context.Background(), api.MemberChange{Do: api.MemberTransfer, ID: "1"}); err != nil && !errors.Is(err, api.ErrRejected) {
		t.Error(err) // rejected: it leads already
	}
	until(t, "node 1 to lead", func() bool { s, err := first.Status(context.Background()); return err == nil && s.Role == "leader" })
	acked := map[string]api.WriteResult{}
	report := func(c *api.Client, key string) {
		t.Helper()
		until(t, "a report to be acknowledged: "+key, func() bool {
			w, err := c.Report(context.Background(), request(key))
			acked[key] = w
			return err == nil
		})
	}
	report(first, "before")
	if err := nodes[0].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// What its clients send now waits in it.
	late := make(chan error, 1)
	go func() { // ends with the answer
		_, err := client(t, dir, 1).Report(context.Background(), request("late"))
		late <- err
	}()
	second := client(t, dir, 2)
	for i := range 10 {
		report(second, fmt.Sprint("paused-", i))
	}
	if err := nodes[0].Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err != nil && !errors.Is(err, api.ErrUnknownOutcome) && !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("the late report: %v", err)
	}
	report(first, "late")
	report(first, "after")
	for key, w := range acked {
		for i := range 3 {
			var again api.WriteResult
			var err error
			until(t, "an answer to "+key, func() bool { // the leader may change
				again, err = client(t, dir, i+1).Report(context.Background(), request(key))
				return !errors.Is(err, api.ErrUnavailable) && !errors.Is(err, api.ErrUnknownOutcome)
			})
			if err != nil || again != w {
				t.Errorf("%s at node %d: %+v, %v; was %+v", key, i+1, again, err, w)
			}
		}
	}
}

// TestDiskFull fills a node's disk under its writers: the process ends with one
// line that says what to do; with the reserve it starts on the full disk, and
// with room it goes on with all that it acknowledged.
func TestDiskFull(t *testing.T) {
	dir := siteDir(t, 1)
	disk := filepath.Join(dir, "d1")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("a file system of its own needs root: %s", out)
	}
	defer func() {
		if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	}()
	p := start(t, "node", "run", "--config", config(dir, 1))
	c := client(t, dir, 1)
	awaitNode(t, c)
	acked := map[string]api.WriteResult{}
	report := func(key string) error {
		w, err := c.Report(context.Background(), request(key))
		if err == nil {
			acked[key] = w
		}
		return err
	}
	for i := range 20 {
		if err := report(fmt.Sprint("room-", i)); err != nil {
			t.Fatal(err)
		}
	}
	fill := filepath.Join(disk, "fill")
	_ = exec.Command("dd", "if=/dev/zero", "of="+fill, "bs=64k").Run() // until it is full
	for i := 0; report(fmt.Sprint("full-", i)) == nil; i++ {
	}
	var said []string
	for line := range p.lines {
		if strings.HasPrefix(line, "tiermesh:") {
			said = append(said, line)
		}
	}
	err := p.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || len(said) != 1 || !strings.Contains(said[0], "no space left") || !strings.Contains(said[0], "free some space") {
		t.Errorf("it ended with %v and said %q", err, said)
	}
	p = start(t, "node", "run", "--config", config(dir, 1))
	awaitNode(t, c)
	checkAcked(t, c, acked)
	p.kill(t)
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	p = start(t, "node", "run", "--config", config(dir, 1))
	awaitNode(t, c)
	checkAcked(t, c, acked)
	if err := report("again"); err != nil {
		t.Error(err)
	}
	p.kill(t)
	t.Logf("%d acknowledged", len(acked))
}
