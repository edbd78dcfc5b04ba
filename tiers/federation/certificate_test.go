package federation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// prove lets one site ask another; it returns the question, the answer and, when
// they are equal, the certificate.
func (w *world) prove(self, peer tiers.SiteID) (*wire.Prove, *wire.Proved, *federation.Certificate, error) {
	held := federation.Shared(w.topology, self, peer, w.sites[self].vectors())
	q := federation.AskProof(w.topology, held, wire.Nonce{1, 2}, 1_700_000_000_000)
	theirs := federation.Shared(w.topology, peer, self, w.sites[peer].vectors())
	a, err := federation.AnswerProof(w.topology, peer, self, theirs, q, w.signer(peer), 1_700_000_000_007)
	if err != nil || len(a.Signature) == 0 {
		return q, a, nil, err
	}
	c, err := federation.Certify(w.topology, self, peer, held, q, a, w.signer(self))
	return q, a, c, err
}

// TestProveSaysTheTruth: two sites get a certificate exactly when they hold the
// same of what they share; otherwise the answer names exactly the chains that
// differ.
func TestProveSaysTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newWorld(tree)
		if err != nil {
			t.Fatal(err)
		}
		written := map[crdt.ChainID][]string{}
		for i := range rapid.IntRange(0, 40).Draw(t, "steps") {
			step(t, w, written, i)
		}
		ends := rapid.SampledFrom(links).Draw(t, "ends")
		a, b := w.sites[ends[0]], w.sites[ends[1]]
		var want []federation.ChainDifference
		for _, c := range slices.SortedFunc(mapsKeys(a.heads(), b.heads()), crdt.ChainID.Compare) {
			mine, theirs := len(a.records[c]), len(b.records[c])
			if w.topology.InAudience(c.Stream, a.id) && w.topology.InAudience(c.Stream, b.id) && mine != theirs {
				want = append(want, federation.ChainDifference{Chain: c, Mine: uint64(mine), Theirs: uint64(theirs)})
			}
		}
		q, answer, c, err := w.prove(ends[0], ends[1])
		if err != nil || answer.Reason != "" || (c != nil) != (len(want) == 0) {
			t.Fatalf("%+v, %v with differences %v", answer, err, want)
		}
		held := federation.Shared(w.topology, a.id, b.id, a.vectors())
		if got := federation.Differences(held, answer); c == nil && !slices.Equal(got, want) {
			t.Fatalf("differences %v, want %v", got, want)
		}
		if c == nil {
			return
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := federation.ParseCertificate(text)
		if err != nil || again.Verify(w.topology) != nil || again.Nonce != q.Nonce || len(again.Vectors) != len(held) {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

// mapsKeys yields the keys of both maps, each once.
func mapsKeys(a, b map[crdt.ChainID]crdt.Head) func(func(crdt.ChainID) bool) {
	return func(yield func(crdt.ChainID) bool) {
		for c := range a {
			if !yield(c) {
				return
			}
		}
		for c := range b {
			if _, both := a[c]; !both && !yield(c) {
				return
			}
		}
	}
}

// equalWorld is a district and a township that hold the same.
func equalWorld(t testing.TB) *world {
	t.Helper()
	w, _ := fixture(t)
	w.tick(2)
	return w
}

// TestCertificateRefusals: a certificate of which anything was changed does not
// hold, and a peer signs for nothing but what it holds itself.
func TestCertificateRefusals(t *testing.T) {
	w := equalWorld(t)
	_, _, c, err := w.prove("t1", "d1")
	if err != nil || c == nil {
		t.Fatalf("%v, %v", c, err)
	}
	sound, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ old, now string }{
		"asker":            {`"asker":"t1"`, `"asker":"t2"`},
		"peer":             {`"peer":"d1"`, `"peer":"d2"`},
		"federation":       {`"federation":"cq"`, `"federation":"bj"`},
		"topology version": {`"topology_version":1`, `"topology_version":2`},
		"time":             {`"asked_ms":1700000000000`, `"asked_ms":1700000000001`},
		"answer's time":    {`"answered_ms":1700000000007`, `"answered_ms":1700000000008`},
		"nonce":            {`"nonce":"01`, `"nonce":"02`},
		"sequence number":  {`"seq":3`, `"seq":4`},
		"incarnation":      {`"incarnation":1`, `"incarnation":2`},
		"a digest":         {`"digest":"`, `"digest":"0`},
		"a stream gone":    {`"class":"urgent"`, `"class":"command"`},
		"unknown field":    {`"asker"`, `"colour":1,"asker"`},
		"format":           {"certificate v1", "certificate v2"},
		"one signature":    {`"signatures":[`, `"signatures":[{"site":"t1","signature":""},`},
		"two values":       {`]}`, `]}{}`},
	} {
		text := strings.Replace(string(sound), row.old, row.now, 1)
		if text == string(sound) {
			t.Fatalf("%s: nothing to change in %s", name, sound)
		}
		if name == "two values" {
			text = string(sound) + "{}"
		}
		bad, err := federation.ParseCertificate([]byte(text))
		if err == nil {
			err = bad.Verify(w.topology)
		}
		if !errors.Is(err, federation.ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.Signatures[0], c.Signatures[1] = c.Signatures[1], c.Signatures[0]
	if err := c.Verify(w.topology); !errors.Is(err, federation.ErrCertificate) {
		t.Errorf("signatures exchanged: %v", err)
	}
}

// TestProveRefusals: a question of another topology, or of streams that are not
// shared, is not signed, and tells the asker nothing of what is not its business.
func TestProveRefusals(t *testing.T) {
	w := equalWorld(t)
	held := federation.Shared(w.topology, "t1", "d1", w.sites["t1"].vectors())
	q := federation.AskProof(w.topology, held, wire.Nonce{}, 1)
	q.TopologyVersion = 9
	a, err := federation.AnswerProof(w.topology, "d1", "t1", held, q, w.signer("d1"), 1)
	if err != nil || len(a.Signature) > 0 || !strings.Contains(a.Reason, "version 9") {
		t.Errorf("another topology: %+v, %v", a, err)
	}
	q.TopologyVersion = 1
	q.Streams = append(q.Streams, wire.StreamDigest{Site: "t2", Class: tiers.ClassRoutine})
	a, err = federation.AnswerProof(w.topology, "d1", "t1", held, q, w.signer("d1"), 1)
	if err != nil || len(a.Signature) > 0 || len(a.Differ) > 0 || a.Reason == "" {
		t.Errorf("a sibling's stream: %+v, %v", a, err)
	}
	// A peer that signs something else than it was asked is found out.
	q = federation.AskProof(w.topology, held, wire.Nonce{}, 1)
	a, err = federation.AnswerProof(w.topology, "d1", "t1", held, q, w.signer("d2"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := federation.Certify(w.topology, "t1", "d1", held, q, a, w.signer("t1")); !errors.Is(err, federation.ErrCertificate) {
		t.Errorf("another's signature: %v", err)
	}
}

// TestGoldenCertificate holds the version-1 bytes of a certificate, and with its
// signatures those of what both sites sign, for good.
func TestGoldenCertificate(t *testing.T) {
	w := equalWorld(t)
	_, _, c, err := w.prove("t1", "d1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const file = "testdata/v1/certificate.golden"
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("version 1 changed:\n%s\nwant:\n%s", got, want)
	}
}

// TestChains: a session tells what each end holds of each chain.
func TestChains(t *testing.T) {
	w, _ := fixture(t)
	l := w.connect("d1", "c")
	w.run()
	w.sites["d1"].ends = nil // so that nothing of t1's can be passed on
	w.write("d1", tiers.StreamID{Site: "d1", Class: tiers.ClassRoutine}, "on its way")
	var got strings.Builder
	for i, s := range l.s {
		for _, c := range s.Chains() {
			fmt.Fprintf(&got, "%s: %s %d/%d\n", l.ends[i], c.Chain, c.Local.Seq, c.Peer.Seq)
		}
	}
	want := `d1: t1/urgent:t1@1 3/3
d1: d1/routine:d1@1 3/2
c: t1/urgent:t1@1 3/3
c: d1/routine:d1@1 2/2
`
	if got.String() != want {
		t.Errorf("%s\nwant\n%s", got.String(), want)
	}
}

// TestProofsReachTheDriver: questions and answers are handed on, after hello only.
func TestProofsReachTheDriver(t *testing.T) {
	w, _ := fixture(t)
	l := w.connect("d1", "c")
	l.s[0].Step(&wire.Prove{})
	if r := l.s[0].Ready(); r.Close == nil || len(r.Proofs) > 0 {
		t.Errorf("before hello: %+v", r)
	}
	w.cut(l)
	l = w.connect("d1", "c")
	w.run()
	l.s[0].Step(&wire.Prove{})
	l.s[0].Step(&wire.Proved{})
	if r := l.s[0].Ready(); r.Close != nil || len(r.Proofs) != 2 {
		t.Errorf("after hello: %+v", r)
	}
}

// FuzzCertificate: no bytes make a certificate that holds, other than the signed
// one.
func FuzzCertificate(f *testing.F) {
	w := equalWorld(f)
	_, _, sound, err := w.prove("t1", "d1")
	if err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(sound)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := federation.ParseCertificate(b)
		if err == nil {
			err = c.Verify(w.topology)
		}
		if err != nil {
			if !errors.Is(err, federation.ErrCertificate) {
				t.Fatal(err)
			}
			return
		}
		if again, err := json.Marshal(c); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%s holds, %v", again, err)
		}
	})
}
