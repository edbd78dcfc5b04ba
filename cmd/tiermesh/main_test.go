package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/demo"
	"github.com/tiermesh/tiermesh/tiers/event"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tiermesh": main})
}

// TestScripts runs the scripts under testdata: what an operator types, what
// comes out and with which exit code. Commands beside testscript's own:
//
//	port NAME…               puts free UDP ports into the environment
//	status CODE tiermesh …   runs a command that must exit with CODE
//	flip PATTERN…            inverts a bit near the start of each file that matches
//	env-file FILE            sets the environment from a file of NAME=value lines
//	field FILE…              copies files that came from outside, byte for byte
//	eventually PATTERN tiermesh …   repeats a command until its output matches
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"port": port, "status": status, "eventually": eventually, "flip": flip, "env-file": envFile, "field": field,
		},
	})
}

func port(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		c, err := listen()
		ts.Check(err)
		defer func() { _ = c.Close() }()
		ts.Setenv(name, fmt.Sprint(c.LocalAddr().(*net.UDPAddr).Port))
	}
}

// listen binds a UDP port of loopback that the system gives to nobody who asks for
// any, so that it is free until it is bound again.
func listen() (c *net.UDPConn, err error) {
	for range 100 {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10_000 + rand.IntN(20_000)})
		if err == nil {
			break
		}
	}
	return c, err
}

// freePort returns a UDP port on loopback that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	c, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func status(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func envFile(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.SplitSeq(strings.TrimSpace(ts.ReadFile(args[0])), "\n") {
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			ts.Fatalf("%s: %q is not NAME=value", args[0], line)
		}
		ts.Setenv(name, value)
	}
}

func field(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("testdata", "field", name))
		if errors.Is(err, os.ErrNotExist) {
			b, err = os.ReadFile(filepath.Join("..", "..", "testbed", "data", name))
		}
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o600))
	}
}

func flip(ts *testscript.TestScript, _ bool, patterns []string) {
	for _, pattern := range patterns {
		paths, err := filepath.Glob(ts.MkAbs(pattern))
		ts.Check(err)
		if len(paths) == 0 {
			ts.Fatalf("no file %s", pattern)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			ts.Check(err)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			ts.Check(err)
			_, err = f.WriteAt([]byte{b[100] ^ 4}, 100)
			ts.Check(errors.Join(err, f.Close()))
		}
	}
}

func eventually(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		_ = ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if strings.Contains(out, args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("never printed %q, last:\n%s", args[0], out)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// process is the command, running as a process of its own.
type process struct {
	*exec.Cmd
	stdout bytes.Buffer
	lines  chan string // of stderr
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("tiermesh", args...), lines: make(chan string, 4096)}
	p.Stdout = &p.stdout
	pipe, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		defer close(p.lines)
		for s := bufio.NewScanner(pipe); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

// kill ends the process without warning.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range p.lines { // to its end, so that Wait finds the pipe drained
	}
	_ = p.Wait()
}

// TestDemoSurvivesSIGKILL kills a demo in each of its phases; started again on
// the same directory it opens its sites and ends well.
func TestDemoSurvivesSIGKILL(t *testing.T) {
	dir := t.TempDir()
	args := []string{"demo", "--dir", dir, "--events", "200", "--townships", "4", "--districts", "2", "--json"}
	for _, phase := range []string{"quarantined", "2. ", "3. ", "was killed with", "4. ", "a bundle of", "an old copy", "5. ", "6. ", "7. "} {
		p := start(t, args...)
		for line := range p.lines {
			if strings.HasPrefix(line, phase) || strings.Contains(line, phase) && !strings.HasSuffix(phase, " ") {
				break
			}
		}
		p.kill(t)
	}
	p := start(t, args...)
	var log []string
	for line := range p.lines {
		log = append(log, line)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(log, "\n"))
	}
	var table demo.Table
	if err := json.Unmarshal(p.stdout.Bytes(), &table); err != nil || !table.Holds() || table.Reported != 200 {
		t.Errorf("%s, %v", p.stdout.String(), err)
	}
}

// TestDemoInterrupted interrupts a demo while its sites start and while it works:
// it says so, as every command does.
func TestDemoInterrupted(t *testing.T) {
	for _, phase := range []string{"starting", "1. ", "2. "} {
		p := start(t, "demo", "--events", "200")
		for line := range p.lines {
			if strings.HasPrefix(line, phase) {
				break
			}
		}
		if err := p.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		for range p.lines { // to its end
		}
		var exit *exec.ExitError
		if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
			t.Errorf("interrupted at %q: %v", phase, err)
		}
	}
}

// TestSIGKILLKeepsAcknowledged kills a node's process under its writers, again
// and again. Every report that was acknowledged is there afterwards, once, and
// a retry of any report with its key is not a second one.
func TestSIGKILLKeepsAcknowledged(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"ca", "init", "--federation", "cq", "--dir", filepath.Join(dir, "ca")},
		{"ca", "issue", "--dir", filepath.Join(dir, "ca"), "--site", "500000", "--out", filepath.Join(dir, "credentials")},
	} {
		if out, err := exec.Command("tiermesh", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("topology.json", `{"federation":"cq","version":1,"sites":[{"id":"500000","tier":"city","name":"重庆市"}]}`)
	socket := "unix:" + filepath.Join(dir, "api.sock")
	config := write("node.json", fmt.Sprintf(
		`{"dir":"data","credentials":"credentials","topology":"topology.json","listen":"127.0.0.1:0","api":%q}`, socket))

	acked, fresh := map[string]api.WriteResult{}, map[string]api.WriteResult{}
	kills, deadline := 0, time.Now().Add(soak(t))
	for ; kills < 4 || time.Now().Before(deadline); kills++ {
		p := start(t, "node", "run", "--config", config)
		c := api.NewClient(socket)
		awaitNode(t, c)
		checkAcked(t, c, fresh)
		maps.Copy(acked, fresh)
		fresh = reportUntilKilled(t, p, c, kills)
		c.Close()
	}
	maps.Copy(acked, fresh)
	p := start(t, "node", "run", "--config", config)
	c := api.NewClient(socket)
	defer c.Close()
	awaitNode(t, c)
	checkAcked(t, c, acked)
	seen := map[string]int{}
	q := api.ListQuery{Limit: 1000}
	for {
		page, err := c.List(context.Background(), "events", q)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			var v event.View
			if err := json.Unmarshal(item, &v); err != nil {
				t.Fatal(err)
			}
			seen[v.Report.SourceKey]++
		}
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", key, n)
		}
	}
	if len(acked) < 100 {
		t.Errorf("only %d reports were acknowledged: the test proves little", len(acked))
	}
	t.Logf("%d kills, %d acknowledged, %d stored", kills, len(acked), len(seen))
	p.kill(t)
}

func awaitNode(t *testing.T, c *api.Client) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		s, err := c.Status(context.Background())
		if err == nil && s.Role == "leader" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node does not come up: %v", err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func request(key string) api.ReportRequest {
	return api.ReportRequest{Key: key, Report: event.Report{Type: "01001", Title: "井盖", Priority: 3, SourceKey: key}}
}

// reportUntilKilled reports from several clients, kills the process when
// enough is acknowledged, and returns what was.
func reportUntilKilled(t *testing.T, p *process, c *api.Client, round int) map[string]api.WriteResult {
	t.Helper()
	acked := map[string]api.WriteResult{}
	var mu sync.Mutex
	var clients sync.WaitGroup
	enough := make(chan struct{}, 1)
	for w := range 6 {
		clients.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("r%d-w%d-%d", round, w, i)
				done, err := c.Report(context.Background(), request(key))
				if err != nil {
					return
				}
				mu.Lock()
				acked[key] = done
				if len(acked) == 30+17*(round%5) {
					enough <- struct{}{}
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(30 * time.Second):
		t.Error("too little is acknowledged")
	}
	p.kill(t)
	clients.Wait()
	return acked
}

// soak is how long the kills go on at least: TIERMESH_SOAK, which make soak
// sets, or no time.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("TIERMESH_SOAK")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// checkAcked retries every acknowledged report: the same key must give the
// same place.
func checkAcked(t *testing.T, c *api.Client, acked map[string]api.WriteResult) {
	t.Helper()
	for key, want := range acked {
		if got, err := c.Report(context.Background(), request(key)); err != nil || got != want {
			t.Fatalf("acknowledged %s at %+v, now %+v, %v", key, want, got, err)
		}
	}
}
