package identity_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/transport/identity"
)

func mustCA(t *testing.T, federation string) *identity.CA {
	t.Helper()
	dir := t.TempDir()
	if err := identity.InitCA(dir, federation, time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := identity.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *identity.CA, cfg identity.IssueConfig) *identity.Credentials {
	t.Helper()
	cfg.ID.Federation = ca.Federation
	if cfg.ID.Node == 0 {
		cfg.ID.Node = 1
	}
	if cfg.OutDir == "" {
		cfg.OutDir = t.TempDir()
	}
	if cfg.Now.IsZero() {
		cfg.Now = time.Now()
	}
	if err := ca.Issue(cfg); err != nil {
		t.Fatal(err)
	}
	c, err := identity.Load(cfg.OutDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIssueAndLoad(t *testing.T) {
	ca := mustCA(t, "cq")
	dir := t.TempDir()
	a := issue(t, ca, identity.IssueConfig{ID: identity.ID{Site: "500101"}, OutDir: dir})
	if a.ID.String() != "spiffe://cq/site/500101/node/1" {
		t.Errorf("identity %s", a.ID)
	}
	again := issue(t, ca, identity.IssueConfig{ID: identity.ID{Site: "500101"}, OutDir: dir})
	if !a.SiteKey.Equal(again.SiteKey) {
		t.Error("a renewed certificate changed the site's key")
	}
	second := issue(t, ca, identity.IssueConfig{ID: identity.ID{Site: "500101", Node: 2}, SiteKeyFrom: dir})
	if !a.SiteKey.Equal(second.SiteKey) {
		t.Error("two nodes of a site sign with different keys")
	}
	if len(a.SitePublicKey()) != ed25519.PublicKeySize {
		t.Errorf("public key of %d bytes", len(a.SitePublicKey()))
	}
}

func TestRefusals(t *testing.T) {
	ca := mustCA(t, "cq")
	if err := ca.Issue(identity.IssueConfig{ID: identity.ID{Federation: "other", Site: "1", Node: 1}, OutDir: t.TempDir()}); !errors.Is(err, identity.ErrFederation) {
		t.Errorf("another federation: %v", err)
	}
	if err := ca.Issue(identity.IssueConfig{ID: identity.ID{Federation: "cq", Site: "a/b", Node: 1}, OutDir: t.TempDir()}); !errors.Is(err, identity.ErrNoIdentity) {
		t.Errorf("bad site: %v", err)
	}
	if err := ca.Issue(identity.IssueConfig{ID: identity.ID{Federation: "cq", Site: "1"}, OutDir: t.TempDir()}); !errors.Is(err, identity.ErrNoIdentity) {
		t.Errorf("node 0: %v", err)
	}
	for _, name := range []string{"", "UPPER", "a b", "a/b"} {
		if err := identity.InitCA(t.TempDir(), name, time.Now()); !errors.Is(err, identity.ErrNoIdentity) {
			t.Errorf("federation %q: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := identity.InitCA(dir, "cq", time.Now()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.InitCA(dir, "cq", time.Now()); !errors.Is(err, identity.ErrExists) {
		t.Errorf("second authority in one directory: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "ca.key")); err != nil || string(after) != string(before) {
		t.Error("the authority's key was overwritten")
	}
	if _, err := identity.OpenCA(t.TempDir()); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("no authority: %v", err)
	}
}

func TestLoadRefusals(t *testing.T) {
	ca, other := mustCA(t, "cq"), mustCA(t, "cq")
	for name, row := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   error
	}{
		"empty directory": {func(t *testing.T, dir string) { remove(t, dir, "node.crt") }, identity.ErrCredentials},
		"no site key":     {func(t *testing.T, dir string) { remove(t, dir, "site.key") }, identity.ErrCredentials},
		"no PEM":          {func(t *testing.T, dir string) { write(t, dir, "node.key", "x") }, identity.ErrCredentials},
		"another's key": {func(t *testing.T, dir string) {
			d := t.TempDir()
			issue(t, ca, identity.IssueConfig{ID: identity.ID{Site: "1"}, OutDir: d})
			copyFile(t, d, dir, "node.key")
		}, identity.ErrCredentials},
		"another authority": {func(t *testing.T, dir string) {
			d := t.TempDir()
			issue(t, other, identity.IssueConfig{ID: identity.ID{Site: "1"}, OutDir: d})
			copyFile(t, d, dir, "ca.crt")
		}, identity.ErrUntrusted},
		"expired": {func(t *testing.T, dir string) {
			if err := ca.Issue(identity.IssueConfig{ID: identity.ID{Federation: "cq", Site: "1", Node: 1}, OutDir: dir, Now: time.Now().Add(-48 * time.Hour), ValidFor: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}, identity.ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			issue(t, ca, identity.IssueConfig{ID: identity.ID{Site: "1"}, OutDir: dir})
			row.damage(t, dir)
			if _, err := identity.Load(dir); !errors.Is(err, row.want) {
				t.Errorf("%v, want %v", err, row.want)
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to, name string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, name, string(b))
}

func TestParseURI(t *testing.T) {
	for text, ok := range map[string]bool{
		"spiffe://cq/site/500101/node/1": true, "spiffe://cq/site/500101/node/0": false, "spiffe://cq/site/500101/node/-1": false,
		"https://cq/site/500101/node/1": false, "spiffe://cq/site//node/1": false, "spiffe://cq/site/1/node/1/x": false,
		"spiffe:///site/1/node/1": false, "spiffe://cq/site/1/node/4294967296": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		id, err := identity.ParseURI(u)
		if (err == nil) != ok || err != nil && !errors.Is(err, identity.ErrNoIdentity) || err == nil && id.String() != text {
			t.Errorf("%s: %s, %v", text, id, err)
		}
	}
}

// TestHandshake: both ends refuse, with the reason, who does not belong.
func TestHandshake(t *testing.T) {
	cq := mustCA(t, "cq")
	us := issue(t, cq, identity.IssueConfig{ID: identity.ID{Site: "500000"}})
	for name, row := range map[string]struct {
		peer *identity.Credentials
		want error
	}{
		"ours":               {issue(t, cq, identity.IssueConfig{ID: identity.ID{Site: "500101"}}), nil},
		"another federation": {issue(t, mustCA(t, "other"), identity.IssueConfig{ID: identity.ID{Site: "500101"}}), identity.ErrFederation},
		"another authority":  {issue(t, mustCA(t, "cq"), identity.IssueConfig{ID: identity.ID{Site: "500101"}}), identity.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			server, client := tls.Server(a, us.TLS("x")), tls.Client(b, row.peer.TLS("x"))
			done := make(chan error, 1)
			go func() { // ends with the handshake
				err := client.Handshake()
				_ = b.Close()
				done <- err
			}()
			err := server.Handshake()
			_ = a.Close()
			clientErr := <-done
			if row.want == nil {
				if err != nil || clientErr != nil {
					t.Errorf("%v, %v", err, clientErr)
				}
				return
			}
			if clientErr == nil && err == nil {
				t.Error("accepted")
			}
			if !errors.Is(clientErr, row.want) {
				t.Errorf("client: %v, want %v", clientErr, row.want)
			}
		})
	}
}

// contents reads a directory, by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			b = []byte("directory")
		}
		out[e.Name()] = string(b)
	}
	return out
}

// TestIssueIsAllOrNothing: what fails, before or after files are in their places,
// leaves the directory and its parent as they were.
func TestIssueIsAllOrNothing(t *testing.T) {
	ca := mustCA(t, "cq")
	refused := errors.New("refused")
	id := identity.ID{Federation: "cq", Site: "500101", Node: 1}
	blocked := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil { // no file can take its place
				t.Fatal(err)
			}
		}
	}
	for name, row := range map[string]struct {
		before func(t *testing.T, dir string)
		check  func([]byte) error
	}{
		"refused, new directory": {func(*testing.T, string) {}, func([]byte) error { return refused }},
		"refused, renewal": {func(t *testing.T, dir string) {
			t.Helper()
			issue(t, ca, identity.IssueConfig{ID: id, OutDir: dir})
		}, func([]byte) error { return refused }},
		"the last file cannot be placed": {blocked("node.crt"), nil},
		"the second file cannot be placed": {func(t *testing.T, dir string) {
			t.Helper()
			issue(t, ca, identity.IssueConfig{ID: id, OutDir: dir})
			remove(t, dir, "site.pub")
			blocked("site.pub")(t, dir)
		}, nil},
		"another node's directory": {func(t *testing.T, dir string) {
			t.Helper()
			issue(t, ca, identity.IssueConfig{ID: identity.ID{Site: "500102"}, OutDir: dir})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "out")
			row.before(t, dir)
			before := contents(t, dir)
			_, existed := contents(t, parent)["out"]
			if err := ca.Issue(identity.IssueConfig{ID: id, OutDir: dir, Now: time.Now(), Check: row.check}); err == nil {
				t.Fatal("issued")
			}
			if after := contents(t, dir); !maps.Equal(before, after) {
				t.Errorf("the directory holds %v, before %v", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
			}
			if _, exists := contents(t, parent)["out"]; exists != existed || len(contents(t, parent)) > 1 {
				t.Errorf("beside it are %v", contents(t, parent))
			}
		})
	}
}

// TestInitCAIsAllOrNothing: an authority that cannot be written whole is not there.
func TestInitCAIsAllOrNothing(t *testing.T) {
	parent := t.TempDir()
	write(t, parent, "file", "x")
	if err := identity.InitCA(filepath.Join(parent, "file", "ca"), "cq", time.Now()); err == nil {
		t.Error("an authority below a file")
	}
	if all := contents(t, parent); len(all) != 1 {
		t.Errorf("left behind: %v", all)
	}
	only := t.TempDir()
	write(t, only, "ca.crt", "another's")
	if err := identity.InitCA(only, "cq", time.Now()); !errors.Is(err, identity.ErrExists) {
		t.Errorf("over another's certificate: %v", err)
	}
}

// TestRenewKeepsKeys: a certificate that is renewed is another, for the same keys, and
// of the same node alone.
func TestRenewKeepsKeys(t *testing.T) {
	ca, dir := mustCA(t, "cq"), t.TempDir()
	id := identity.ID{Federation: "cq", Site: "500101", Node: 1}
	issue(t, ca, identity.IssueConfig{ID: id, OutDir: dir})
	before := contents(t, dir)
	issue(t, ca, identity.IssueConfig{ID: id, OutDir: dir})
	for name, text := range contents(t, dir) {
		if same := text == before[name]; same != (name != "node.crt") {
			t.Errorf("%s: the same is %v", name, same)
		}
	}
	for name, cfg := range map[string]identity.IssueConfig{
		"a second node in the first one's directory": {ID: identity.ID{Federation: "cq", Site: "500101", Node: 2}, OutDir: dir},
		"the site key of another site":               {ID: identity.ID{Federation: "cq", Site: "500102", Node: 1}, OutDir: filepath.Join(t.TempDir(), "x"), SiteKeyFrom: dir},
	} {
		cfg.Now = time.Now()
		if err := ca.Issue(cfg); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDescribe: what can be read is told, and why it cannot be used.
func TestDescribe(t *testing.T) {
	ca, dir := mustCA(t, "cq"), t.TempDir()
	issue(t, ca, identity.IssueConfig{ID: identity.ID{Site: "500101"}, OutDir: dir})
	d, err := identity.Describe(dir)
	if err != nil || d.ID != "spiffe://cq/site/500101/node/1" || d.Authority || d.Problem != "" || d.Issuer != "tiermesh CA of cq" || len(d.SiteKey) != 64 {
		t.Errorf("%+v, %v", d, err)
	}
	if err := ca.Issue(identity.IssueConfig{
		ID: identity.ID{Federation: "cq", Site: "500101", Node: 1}, OutDir: dir, Now: time.Now().Add(-48 * time.Hour), ValidFor: time.Hour,
	}); err != nil {
		t.Fatal(err)
	}
	if d, err = identity.Describe(dir); err != nil || !strings.Contains(d.Problem, "expired") || !d.NotAfter.Before(time.Now()) {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := identity.Describe(t.TempDir()); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("an empty directory: %v", err)
	}
}
