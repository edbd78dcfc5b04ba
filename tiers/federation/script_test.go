package federation_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// TestScripts plays the scripts under testdata. The commands:
//
//	topology              one site a line: code, or code parent, or code x parent
//	learn sites=a+b version=n   sites learn a newer topology, in rows as above
//	config                batch= window= flights= stall= proof= hello= old=SITE|nobody
//	write site= stream= n= kind=   append n records of a site to a stream
//	connect child parent [slow]   both ends say hello; slow disks wait for "stored"
//	run | tick n= | deliver to= from= n= | stored | cut child parent
//	heads site=           what a site holds
//	status child parent   what each end knows of the link
//	refused from= to=  what an end did not take, by reason
//	negotiated from= to=  version and features that an end found
//	lose site= stream= keep=   an old backup: the site's own chain is shorter
//	rewrite site= stream= from=   a cloned disk: other records, same numbers
//	restart site=         the site starts a new incarnation
//	forge from= to= KIND …     a message that no honest site sends
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "rapid") || strings.HasSuffix(path, ".golden") || strings.Contains(path, "fuzz") {
			return
		}
		p := &script{}
		datadriven.RunTest(t, path, p.run)
	})
}

type script struct {
	w   *world
	out strings.Builder
}

func (p *script) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	p.out.Reset()
	var err error
	switch d.Cmd {
	case "topology":
		if p.w, err = newWorld(d.Input); err == nil {
			p.w.cfg.HelloHeads = -1 // so that scripts show the vectors, unless they say otherwise
			p.w.trace = func(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }
		}
	case "learn":
		err = p.learn(t, d)
	case "config":
		p.config(t, d)
	case "write":
		p.write(t, d)
	case "connect":
		a, b := ends(d)
		l := p.w.connect(a, b)
		l.slow = d.HasArg("slow")
	case "run":
		p.w.run()
	case "tick":
		n := 1
		d.MaybeScanArgs(t, "n", &n)
		p.w.tick(n)
	case "deliver":
		n := 1
		d.MaybeScanArgs(t, "n", &n)
		l, i := p.link(t, d)
		for range n {
			p.w.deliver(l, i)
		}
	case "stored":
		for _, l := range p.w.sortedLinks() {
			for i := range l.ends {
				p.w.store(l, i)
			}
			p.w.drain(l)
		}
	case "cut":
		a, b := ends(d)
		p.w.cut(p.w.links[[2]tiers.SiteID{a, b}])
	case "heads":
		p.heads(p.site(t, d, "site"))
	case "status":
		a, b := ends(d)
		p.status(p.w.links[[2]tiers.SiteID{a, b}])
	case "refused", "negotiated":
		p.found(t, d)
	case "lose", "rewrite":
		p.damage(t, d)
	case "restart":
		p.w.sites[p.site(t, d, "site")].incarnation++
	case "forge":
		p.forge(t, d)
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	if p.out.Len() == 0 {
		return "ok\n"
	}
	return p.out.String()
}

// found shows what an end of a link refused, or what it found of its peer.
func (p *script) found(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	l, i := p.link(t, d)
	if d.Cmd == "negotiated" {
		st := l.s[i].Status()
		fmt.Fprintf(&p.out, "version %d, features %b\n", st.Version, st.Features)
		return
	}
	for _, reason := range slices.Sorted(maps.Keys(l.refused[i])) {
		fmt.Fprintf(&p.out, "%s: %d\n", reason, l.refused[i][reason])
	}
}

func (p *script) write(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	n, kind := 1, int(crdt.RecordChange)
	d.MaybeScanArgs(t, "n", &n)
	d.MaybeScanArgs(t, "kind", &kind)
	for range n {
		p.w.writeKind(crdt.RecordKind(kind), p.site(t, d, "site"), p.stream(t, d), "x")
	}
	p.drain()
}

// learn gives some sites a newer topology; their links end with that.
func (p *script) learn(t *testing.T, d *datadriven.TestData) error {
	t.Helper()
	next, err := p.w.topology.Succeed(p.w.parse(d.Input, uint64(p.number(t, d, "version"))))
	if err != nil {
		return err
	}
	var sites string
	d.ScanArgs(t, "sites", &sites)
	for id := range strings.SplitSeq(sites, "+") {
		p.w.newer[tiers.SiteID(id)] = next
	}
	return nil
}

func (p *script) config(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	c := &p.w.cfg
	for key, into := range map[string]*int{
		"hello": &c.HelloHeads, "batch": &c.BatchBytes, "window": &c.WindowBytes, "flights": &c.FlightsMax, "stall": &c.StallTicks, "proof": &c.ProofTicks,
	} {
		d.MaybeScanArgs(t, key, into)
	}
	if d.HasArg("old") {
		p.w.old = map[tiers.SiteID]bool{p.site(t, d, "old"): true}
	}
}

func ends(d *datadriven.TestData) (child, parent tiers.SiteID) {
	return tiers.SiteID(d.CmdArgs[0].Key), tiers.SiteID(d.CmdArgs[1].Key)
}

func (p *script) drain() {
	for _, l := range p.w.sortedLinks() {
		p.w.drain(l)
	}
}

func (p *script) site(t *testing.T, d *datadriven.TestData, key string) tiers.SiteID {
	t.Helper()
	var s string
	d.ScanArgs(t, key, &s)
	return tiers.SiteID(s)
}

func (p *script) stream(t *testing.T, d *datadriven.TestData) tiers.StreamID {
	t.Helper()
	var s string
	d.ScanArgs(t, "stream", &s)
	site, class, _ := strings.Cut(s, "/")
	c, err := tiers.ParseClass(class)
	if err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	return tiers.StreamID{Site: tiers.SiteID(site), Class: c}
}

// link finds the link between from= and to=, and which end the second is.
func (p *script) link(t *testing.T, d *datadriven.TestData) (*link, int) {
	t.Helper()
	from, to := p.site(t, d, "from"), p.site(t, d, "to")
	for _, l := range p.w.sortedLinks() {
		for i := range l.ends {
			if l.ends[i] == to && l.ends[1-i] == from {
				return l, i
			}
		}
	}
	t.Fatalf("%s: no link between %s and %s", d.Pos, from, to)
	return nil, 0
}

func (p *script) heads(id tiers.SiteID) {
	s := p.w.sites[id]
	var chains []crdt.ChainID
	for c := range s.records {
		chains = append(chains, c)
	}
	slices.SortFunc(chains, crdt.ChainID.Compare)
	for _, c := range chains {
		fmt.Fprintf(&p.out, "%s: %d", c, len(s.records[c]))
		if aside := len(s.evidence[c]); aside > 0 {
			fmt.Fprintf(&p.out, ", %d set aside", aside)
		}
		p.out.WriteByte('\n')
	}
}

func (p *script) status(l *link) {
	if l == nil {
		p.out.WriteString("no link\n")
		return
	}
	for i, s := range l.s {
		st := s.Status()
		fmt.Fprintf(&p.out, "%s: owes %d, lacks %d, settled %v, equal %v\n", l.ends[i], st.OwedOut, st.OwedIn, st.Settled, st.Equal)
		for _, c := range st.Disputed {
			fmt.Fprintf(&p.out, "%s: %s forks\n", l.ends[i], c)
		}
		for _, c := range st.Apart {
			fmt.Fprintf(&p.out, "%s: %s stays apart\n", l.ends[i], c)
		}
	}
}

// damage turns a site's own chain into that of an old backup or of a clone.
func (p *script) damage(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	s := p.w.sites[p.site(t, d, "site")]
	c := crdt.ChainID{Stream: p.stream(t, d), Author: crdt.Author{Site: s.id, Incarnation: s.incarnation}}
	if d.Cmd == "lose" {
		var keep int
		d.ScanArgs(t, "keep", &keep)
		s.records[c] = s.records[c][:keep]
		return
	}
	all := slices.Clone(s.records[c])
	from := 1
	d.MaybeScanArgs(t, "from", &from)
	for i := from - 1; i < len(all); i++ {
		all[i] = append(bytes.Clone(all[i]), '!')
	}
	s.records[c] = all
}

// forge puts a message on the link that the peer's own session did not make.
func (p *script) forge(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	l, i := p.link(t, d)
	from := l.ends[1-i]
	var m wire.Message
	switch kind := d.CmdArgs[2].Key; kind {
	case "hello":
		h := &wire.Hello{VersionMin: 1, VersionMax: 1, Federation: "cq", Site: from, Node: 1, Incarnation: 1}
		d.MaybeScanArgs(t, "federation", &h.Federation)
		var site string
		if d.MaybeScanArgs(t, "site", &site); site != "" {
			h.Site = tiers.SiteID(site)
		}
		p.helloVersions(t, d, h)
		l.queue[i][0] = nil // instead of the real one
		m = h
	case "vectors":
		m = p.vectors(t, d)
	case "ack":
		m = &wire.Ack{Chain: p.chain(t, d), Seq: uint64(p.number(t, d, "seq"))}
	case "resend":
		m = &wire.Resend{Chain: p.chain(t, d), First: uint64(p.number(t, d, "seq"))}
	case "unknown":
		m = &wire.Unknown{FrameType: 200}
	case "bye":
		m = &wire.Bye{Code: wire.CodeShutdown, Reason: "going home"}
	case "batch":
		m = p.batch(t, d)
	default:
		t.Fatalf("%s: forge %s", d.Pos, kind)
	}
	times := 1
	d.MaybeScanArgs(t, "times", &times)
	for range times {
		l.s[i].Step(m)
		p.w.drain(l)
	}
}

// helloVersions sets what a forged hello says of versions, features and, with
// stream=, what it holds.
func (p *script) helloVersions(t *testing.T, d *datadriven.TestData, h *wire.Hello) {
	t.Helper()
	version, most, features := 1, 0, 0
	d.MaybeScanArgs(t, "version", &version)
	d.MaybeScanArgs(t, "max", &most)
	d.MaybeScanArgs(t, "features", &features)
	h.TopologyVersion = 1
	d.MaybeScanArgs(t, "topology", &h.TopologyVersion)
	h.VersionMin, h.VersionMax, h.Features = uint16(version), uint16(max(version, most)), uint64(features)
	if d.HasArg("stream") {
		s := p.stream(t, d)
		h.Streams = []wire.StreamDigest{{Site: s.Site, Class: s.Class, Digest: wire.Hash{1}}}
	}
}

func (p *script) vectors(t *testing.T, d *datadriven.TestData) wire.Message {
	t.Helper()
	v := wire.StreamVector{Site: p.stream(t, d).Site, Class: p.stream(t, d).Class}
	if d.HasArg("author") {
		v.Heads = []wire.ChainHead{{Author: p.site(t, d, "author"), Incarnation: 1, Seq: uint64(p.number(t, d, "seq")), Hash: wire.Hash{1}}}
	}
	return &wire.Vectors{Streams: []wire.StreamVector{v}}
}

func (p *script) number(t *testing.T, d *datadriven.TestData, key string) (n int) {
	t.Helper()
	d.ScanArgs(t, key, &n)
	return n
}

func (p *script) chain(t *testing.T, d *datadriven.TestData) wire.Chain {
	t.Helper()
	stream := p.stream(t, d)
	return wire.Chain{Site: stream.Site, Class: stream.Class, Author: p.site(t, d, "author"), Incarnation: 1}
}

// batch is a batch of n records from first= on, signed with the author's key
// unless bad= says what is wrong with it.
func (p *script) batch(t *testing.T, d *datadriven.TestData) wire.Message {
	t.Helper()
	c := p.chain(t, d)
	id := crdt.ChainID{Stream: tiers.StreamID{Site: c.Site, Class: c.Class}, Author: crdt.Author{Site: c.Author, Incarnation: 1}}
	first, n := 1, 1
	bad := ""
	d.MaybeScanArgs(t, "first", &first)
	d.MaybeScanArgs(t, "n", &n)
	d.MaybeScanArgs(t, "bad", &bad)
	head := crdt.Head{Seq: uint64(first) - 1, Hash: id.Origin().Hash}
	if bad == "prev" {
		head.Hash[0]++
	}
	b := &wire.Batch{Chain: c, First: uint64(first), Prev: wire.Hash(head.Hash)}
	for range n {
		rec := crdt.Record{Kind: crdt.RecordChange, Doc: "event:e", Body: []byte("forged")}.AppendTo(nil)
		if bad == "record" {
			rec = []byte("no record")
		}
		b.Records = append(b.Records, rec)
		head = head.Next(rec)
	}
	signer := p.w.keys[c.Author]
	if bad == "signature" || signer == nil {
		signer = p.w.keys[p.site(t, d, "from")]
	}
	cp, err := crdt.SignCheckpoint(crdt.Ed25519Signer(signer), id, head, 1)
	if err != nil {
		t.Fatal(err)
	}
	b.Checkpoint = wire.Checkpoint{Seq: head.Seq, Hash: wire.Hash(head.Hash), TimeMS: 1, Signature: cp.Signature}
	switch bad {
	case "hash":
		b.Checkpoint.Hash[0]++
	case "seq":
		b.Checkpoint.Seq++
	}
	return b
}
