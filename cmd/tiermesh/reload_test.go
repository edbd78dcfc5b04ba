package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// hangUp sends SIGHUP and waits for a line of the log.
func (p *process) hangUp(t *testing.T, line string) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.says(t, line)
}

// says waits for a line of the log.
func (p *process) says(t *testing.T, line string) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case got, ok := <-p.lines:
			if !ok {
				t.Fatalf("the process ended before it said %q", line)
			}
			if strings.Contains(got, line) {
				return
			}
		case <-limit:
			t.Fatalf("never said %q", line)
		}
	}
}

// renew issues another certificate of a node.
func renew(t *testing.T, dir, out string, validFor time.Duration) {
	t.Helper()
	ca, err := identity.OpenCA(filepath.Join(dir, "ca"))
	if err == nil {
		err = ca.Issue(identity.IssueConfig{ID: identity.ID{Federation: "cq", Site: "500000", Node: 1}, OutDir: out, Now: time.Now(), ValidFor: validFor})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReload hangs a node up again and again while it is written to: with nothing
// changed, with a renewed certificate, with files that cannot be used, with a newer
// topology. It never ends, refuses no write, and says what it did.
func TestReload(t *testing.T) {
	dir := siteDir(t, 1)
	p := start(t, "node", "run", "--config", config(dir, 1))
	defer p.kill(t)
	c := client(t, dir, 1)
	awaitNode(t, c)
	ctx, stop := context.WithCancel(context.Background())
	wrote, failed := atomic.Int64{}, make(chan error, 1)
	go func() { // ends with ctx
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := c.Report(ctx, request(fmt.Sprint("write", i))); err != nil && ctx.Err() == nil {
				failed <- err
				return
			}
			wrote.Add(1)
		}
		failed <- nil
	}()
	reloadCredentials(t, p, c, dir)
	reloadTopology(t, p, c, filepath.Join(dir, "topology.json"))

	good, err := os.ReadFile(config(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, config(dir, 1), strings.NewReplacer("{", `{"stand_in_after":"5s",`, `"dir":"d1"`, `"dir":"d2"`).Replace(string(good)))
	p.hangUp(t, "key=stand_in_after")
	p.says(t, "a restart is needed")
	writeText(t, config(dir, 1), `{"stand_in_after":"soon"}`)
	p.hangUp(t, "the configuration")

	stop()
	if err := <-failed; err != nil || wrote.Load() == 0 {
		t.Errorf("%d writes, then %v", wrote.Load(), err)
	}
}

// reloadCredentials renews a node's certificate, and spoils each file of it.
func reloadCredentials(t *testing.T, p *process, c *api.Client, dir string) {
	t.Helper()
	creds := filepath.Join(dir, "c1")
	ends := func() time.Time {
		s, err := c.Status(context.Background())
		if err != nil || s.CertificateEnds == nil {
			t.Fatalf("status: %v", err)
		}
		return *s.CertificateEnds
	}
	before := ends()
	p.hangUp(t, "credentials are as they were")
	renew(t, dir, creds, 48*time.Hour)
	p.hangUp(t, "renewed certificate in force")
	if after := ends(); !after.Before(before) || time.Until(after) > 49*time.Hour {
		t.Errorf("certificate ends %s, before %s", after, before)
	}

	whole, err := os.ReadFile(filepath.Join(creds, "node.crt"))
	if err != nil {
		t.Fatal(err)
	}
	short := ends()
	writeText(t, filepath.Join(creds, "node.crt"), "-----BEGIN CERT")
	p.hangUp(t, "node.crt")
	renew(t, dir, filepath.Join(dir, "elsewhere"), time.Hour)
	for name, with := range map[string]string{"another's key": "node.key", "another site's key": "site.key"} {
		kept, err := os.ReadFile(filepath.Join(creds, with))
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(filepath.Join(dir, "elsewhere", with))
		if err != nil {
			t.Fatal(err)
		}
		writeText(t, filepath.Join(creds, "node.crt"), string(whole))
		writeText(t, filepath.Join(creds, with), string(other))
		p.hangUp(t, with)
		if now := ends(); !now.Equal(short) {
			t.Errorf("%s: the certificate in force ends %s", name, now)
		}
		writeText(t, filepath.Join(creds, with), string(kept))
	}
	p.hangUp(t, "credentials are as they were")
}

// reloadTopology offers a node a topology that is not newer, a newer one, and two that
// cannot be taken.
func reloadTopology(t *testing.T, p *process, c *api.Client, topology string) {
	t.Helper()
	text, err := os.ReadFile(topology)
	if err != nil {
		t.Fatal(err)
	}
	p.hangUp(t, "topology file is not newer")
	writeText(t, topology, strings.Replace(string(text), `"version":1`, `"version":7`, 1))
	p.hangUp(t, "topology_version=7")
	writeText(t, topology, "{")
	p.hangUp(t, "what is in force stays")
	writeText(t, topology, strings.NewReplacer(`"version":1`, `"version":9`, `"cq"`, `"other"`).Replace(string(text)))
	p.hangUp(t, "federation")
	if s, err := c.Status(context.Background()); err != nil || s.TopologyVersion != 7 || !strings.Contains(strings.Join(s.Alarms, "\n"), "not taken over, what is in force stays") {
		t.Errorf("topology %d in force, alarms %q, %v", s.TopologyVersion, s.Alarms, err)
	}
}

// TestHangupEnds: SIGHUP ends a command that has no other use for it in order, and is
// ignored where it was at the start, as under nohup.
func TestHangupEnds(t *testing.T) {
	p := start(t, "demo", "--serve", "--dir", t.TempDir())
	p.says(t, "1. ")
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range p.lines { // to its end
	}
	err := p.Wait()
	if exit := p.ProcessState.ExitCode(); exit != exitInterrupted {
		t.Errorf("exit code %d, %v", exit, err)
	}
	dir := siteDir(t, 1)
	script := exec.Command("sh", "-c", `trap "" HUP; tiermesh --api unix:/nowhere --timeout 2s status & kill -HUP $!; wait $!`)
	script.Dir = dir
	out, err := script.CombinedOutput()
	if code := script.ProcessState.ExitCode(); code != exitUnreachable {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}
