package node_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/byzantine"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// drips announces a frame of 4 MiB and sends a byte of it now and then.
func drips(ctx context.Context, c *byzantine.Conn) error {
	r, err := c.Write(ctx, []byte{3, 0, 0x40, 0, 0})
	for err == nil {
		select {
		case <-c.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
			_, err = r.Write([]byte{1})
		}
	}
	return nil
}

// sendsOnly sends valid records of its own all the time and acknowledges nothing.
func sendsOnly(ctx context.Context, c *byzantine.Conn) error {
	if err := c.LackAll(ctx); err != nil {
		return err
	}
	head := ownChain.Origin()
	c.Flood(ctx, func(int) wire.Message {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-c.Done():
		}
		b, end, err := c.Peer.Batch(ownChain, head, 1)
		if err != nil {
			panic(err)
		}
		head = end
		return b
	})
	return nil
}

// neverReads asks without end and reads no answer.
func neverReads(ctx context.Context, c *byzantine.Conn) error {
	for i := 0; c.Say(ctx, &wire.Prove{Nonce: wire.Nonce{byte(i), byte(i >> 8), byte(i >> 16)}}) == nil; i++ {
	}
	return nil
}

// TestByzantineStalls: a peer that keeps a link up and lets nothing move loses it.
func TestByzantineStalls(t *testing.T) {
	s := newSiege(t, local.Config{Tick: 10 * time.Millisecond, LinkIdle: 15 * time.Second})
	defer s.watchHeap()()
	stalled := []wire.Code{wire.CodeStalled}
	for _, a := range []attack{
		{"one byte now and then", greeted(drips), stalled},
		{"no hello", func(context.Context, *byzantine.Conn) error { return nil }, stalled},
		{"never acknowledges", greeted(sendsOnly), stalled},
		{"never reads", greeted(neverReads), append(stalled, wire.CodeProtocol)},
	} {
		t.Run(a.name, func(t *testing.T) {
			s.t = t
			ctx := limited(t)
			c := s.dial()
			if err := a.run(ctx, c); err != nil {
				t.Fatal(err)
			}
			code, reason, err := c.Verdict(ctx)
			if err != nil || !slices.Contains(a.want, code) {
				t.Fatalf("told %s (%s), %v; want one of %v", code, reason, err, a.want)
			}
			s.unharmed(ownChain)
		})
	}
	s.t = t
}

// TestLieBurnsNoIncarnation: a peer that says, on link after link, that it holds more
// of a site's own chain than the site does makes it start no incarnation: only
// records with the site's signature would.
func TestLieBurnsNoIncarnation(t *testing.T) {
	s := newSiege(t, local.Config{})
	for i := range 8 {
		c, ctx := s.dial(), limited(t)
		claim := wire.ChainHead{Author: district, Incarnation: s.incarnation, Seq: wire.SeqMax - uint64(i), Hash: wire.Hash{1}}
		run := greeted(says(just(vectors(victims, claim)), batch(victimsOwn, victimsOwn.Origin(), nil)), victims)
		if err := run(ctx, c); err != nil {
			t.Fatal(err)
		}
		if code, reason, err := c.Verdict(ctx); err != nil || code != wire.CodeCheckpoint {
			t.Fatalf("told %s (%s), %v", code, reason, err)
		}
	}
	s.refusedFor(wire.CodeCheckpoint, nil)
	s.unharmed()
}

// TestByzantineFlood: a site that writes tiny records into its own stream as fast as
// it can, and then sends them again on link after link, holds nobody up. What it may
// write is stored once.
func TestByzantineFlood(t *testing.T) {
	s := newSiege(t, local.Config{})
	defer s.watchHeap()()
	const n = 2000
	ctx, head := limited(t), ownChain.Origin()
	batches := make([]wire.Message, n)
	for i := range batches {
		b, end, err := s.peer.Batch(ownChain, head, 1)
		if err != nil {
			t.Fatal(err)
		}
		batches[i], head = b, end
	}
	c := s.dial()
	sent := make(chan error, 1)
	go func() { sent <- errors.Join(c.Greet(ctx), c.Say(ctx, batches...)) }() // ends with ctx
	s.holds(s.reportAgreed(5))
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	held := func() uint64 { return s.Node(district).Group().Store().Vector(ownStream)[ownChain.Author].Seq }
	s.wait("the flood to be stored", func() bool { return held() == n })
	for range 5 {
		c := s.dial()
		if err := c.Greet(ctx, ownStream); err != nil {
			t.Fatal(err)
		}
		go func() { _ = c.Say(ctx, batches...) }() // ends with the link
		s.holds(s.reportAgreed(1))
		if err := c.Say(ctx, batches[n-1], batches[n-1]); err == nil {
			_, _, err = c.Verdict(ctx)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	s.refusedFor(wire.CodeProtocol, nil)
	if held() != n {
		t.Errorf("%d records of the flood", held())
	}
	s.unharmed(ownChain)
}

// TestReplayIsCompared: what a site holds already is compared and acknowledged; it
// takes no entry of the site's log.
func TestReplayIsCompared(t *testing.T) {
	s := newSiege(t, local.Config{})
	const n = 50
	ctx, head := limited(t), ownChain.Origin()
	batches := make([]wire.Message, n)
	for i := range batches {
		b, end, err := s.peer.Batch(ownChain, head, 1)
		if err != nil {
			t.Fatal(err)
		}
		batches[i], head = b, end
	}
	st := s.Node(district).Group().Store()
	for round := range 2 {
		before := st.AppliedIndex()
		c := s.dial()
		if err := c.Greet(ctx); err != nil {
			t.Fatal(err)
		}
		for i, b := range batches {
			if err := c.Say(ctx, b); err != nil {
				t.Fatal(err)
			}
			ack, err := byzantine.Await[*wire.Ack](ctx, c)
			if err != nil || ack.Seq != uint64(i+1) {
				t.Fatalf("acknowledged %+v, %v", ack, err)
			}
		}
		if entries := st.AppliedIndex() - before; round == 0 && entries < n || round == 1 && entries >= n/2 {
			t.Errorf("round %d took %d entries of the log", round, entries)
		}
		if err := c.Close(wire.CodeOK, "again"); err != nil {
			t.Fatal(err)
		}
	}
	s.unharmed(ownChain)
}

// reportAgreed takes in events and waits until the honest sites agree.
func (s *siege) reportAgreed(n int) []store.DocKey {
	s.t.Helper()
	docs := s.report(n)
	s.wait("the honest sites to agree", s.agreed)
	return docs
}

// TestByzantineConnections: a peer that dials without end has one link, and neither
// keeps honest ones out nor makes them wait.
func TestByzantineConnections(t *testing.T) {
	s := newSiege(t, local.Config{Configured: local.Configured{Comparing: 2}})
	ctx, stop := context.WithCancel(limited(t))
	flood := make(chan struct{})
	go func() { // ends with stop
		defer close(flood)
		for i := 0; ctx.Err() == nil; i++ {
			c, err := s.peer.Dial(ctx, district)
			if err == nil && i%2 == 0 {
				_ = c.Greet(ctx)
			}
		}
	}()
	for range 3 {
		s.Cut(township, district)
		s.Heal()
		s.holds(s.reportAgreed(1))
	}
	stop()
	<-flood
	if err := s.peer.Close(); err != nil {
		t.Fatal(err)
	}
	s.unharmed()
}

// TestAlarmsOfOnePeer: a peer that gives cause for a new alarm each time drives its
// own older ones out, and nobody else's.
func TestAlarmsOfOnePeer(t *testing.T) {
	a := node.NewAlarms()
	a.RaiseOf("", "a disk is full")
	a.RaiseOf(township, "a chain forks")
	for i := range 1000 {
		a.RaiseOf(traitor, fmt.Sprint("lie ", i))
	}
	all := strings.Join(a.All(), "\n")
	if !strings.Contains(all, "disk") || !strings.Contains(all, "forks") || !strings.Contains(all, "lie 999") || strings.Count(all, "lie") != 8 {
		t.Errorf("%s", all)
	}
}
