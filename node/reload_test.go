package node_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// TestStrangerIsTold: a site that refuses a certificate says so once, with the caller's
// address, what it claims to be and why, and holds it against no site; the caller is
// told that it was refused.
func TestStrangerIsTold(t *testing.T) {
	m := newMesh(t)
	fed := m.Node(city).ID().Federation
	dir := t.TempDir()
	if err := identity.InitCA(filepath.Join(dir, "ca"), fed, time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := identity.OpenCA(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Issue(identity.IssueConfig{ID: identity.ID{Federation: fed, Site: district, Node: 1}, OutDir: dir, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	creds, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	own, err := identity.Load(filepath.Join(m.dir, string(district), "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	creds.Roots = own.Roots // it knows the federation's authority and is not of it
	conn, err := transport.ListenUDP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e, err := transport.Open(transport.Config{Conn: conn, Credentials: creds})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	for range 3 {
		l, err := e.Dial(limited(t), m.Node(city).Addr().String(), city)
		if err == nil {
			<-l.Done()
			err = l.Err()
		}
		if err == nil || !strings.Contains(err.Error(), "refuses this node's certificate") {
			t.Fatalf("the caller is told %v", err)
		}
	}
	want := fmt.Sprintf("a caller at %s, which claims to be site %s was refused: identity: certificate of another authority", e.Addr().(*net.UDPAddr).IP, district)
	told := 0
	for _, a := range m.Node(city).Alarms() {
		if strings.Contains(a, want) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times: %q", told, m.Node(city).Alarms())
	}
	if got := m.link(city, district); got.Findings.Refused != nil {
		t.Errorf("it is held against the site that it claims to be: %v", got.Findings.Refused)
	}
}

// TestReread: a renewed certificate and a newer topology are found without being told
// of; what is damaged leaves in force what is, and says so.
func TestReread(t *testing.T) {
	m := newMesh(t)
	n, dir := m.Node(township), filepath.Join(m.dir, string(township), "credentials")
	ends := func() time.Time {
		s, err := n.Backend().Status(limited(t))
		if err != nil || s.CertificateEnds == nil {
			t.Fatalf("status: %v", err)
		}
		return *s.CertificateEnds
	}
	before := ends()
	if n.Reread(limited(t)); !ends().Equal(before) {
		t.Error("nothing changed, and the certificate did")
	}
	ca, err := identity.OpenCA(filepath.Join(m.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Issue(identity.IssueConfig{ID: n.ID(), OutDir: dir, Now: time.Now(), ValidFor: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	n.Reread(limited(t))
	renewed := ends()
	if !renewed.Before(before) {
		t.Errorf("the certificate in force ends %s, before %s", renewed, before)
	}
	key := filepath.Join(dir, "node.key")
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n.Reread(limited(t))
	}
	if got := strings.Join(n.Alarms(), "\n"); !ends().Equal(renewed) || strings.Count(got, "not taken over") != 1 || strings.Contains(got, "times") {
		t.Errorf("the certificate in force ends %s, alarms %s", ends(), got)
	}
	m.wait("the links go on", func() bool { return m.link(township, district).State == "connected" })
}
