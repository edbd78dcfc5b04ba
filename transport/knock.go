package transport

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// A knock is a datagram beside QUIC that asks the other end's socket for an answer;
// the package comment has its format.
const (
	knockMagic  = 0x01744d4b // first two bits 0: not QUIC (RFC 9443)
	knockAsk    = 1
	knockAnswer = 2
	knockBytes  = 16 // of an answer, and at least of a question
	// knocksPerSecond bounds the answers of an endpoint: they go to whatever address
	// a question claims to come from.
	knocksPerSecond = 256
)

// knocks asks and answers. Safe for concurrent use.
type knocks struct {
	send func([]byte, net.Addr) error

	mu      sync.Mutex // guards pending
	pending map[uint64]asked
}

// asked is a question that nobody answered yet.
type asked struct {
	size    int
	answers chan<- int
}

// ask sends a question of so many bytes; the answer puts that number into the
// channel, which must have room. Forget ends the wait.
func (k *knocks) ask(to net.Addr, size int, answers chan<- int) (forget func()) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	nonce := binary.BigEndian.Uint64(b[:])
	k.mu.Lock()
	k.pending[nonce] = asked{size, answers}
	k.mu.Unlock()
	_ = k.send(knock(knockAsk, nonce, size), to) // what this end's interface does not take is as lost as any
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.pending, nonce)
	}
}

func knock(kind byte, nonce uint64, size int) []byte {
	b := make([]byte, max(size, knockBytes))
	binary.BigEndian.PutUint32(b, knockMagic)
	b[4] = kind
	binary.BigEndian.PutUint64(b[8:], nonce)
	return b
}

// serve answers and takes answers until receive fails.
func (k *knocks) serve(receive func([]byte) (int, net.Addr, error)) {
	left, since := knocksPerSecond, time.Now()
	b := make([]byte, 2<<10)
	for {
		n, from, err := receive(b)
		if err != nil {
			return
		}
		if n < knockBytes || binary.BigEndian.Uint32(b) != knockMagic {
			continue
		}
		nonce := binary.BigEndian.Uint64(b[8:])
		switch b[4] {
		case knockAsk:
			if time.Since(since) > time.Second {
				left, since = knocksPerSecond, time.Now()
			}
			if left > 0 {
				left--
				_ = k.send(knock(knockAnswer, nonce, knockBytes), from) // one that is lost is asked for again
			}
		case knockAnswer:
			k.answered(nonce)
		}
	}
}

func (k *knocks) answered(nonce uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a, ok := k.pending[nonce]; ok {
		delete(k.pending, nonce)
		a.answers <- a.size
	}
}

// The rounds of a measurement. Once the other end has answered a small packet, a large
// one and a small one go out together, the large one first: on a path that keeps their
// order an answer to the small one says what became of the large one.
const (
	knockRounds = 7
	knockPause  = 300 * time.Millisecond
	knockSmall  = 64
	// knockEnough answers without one to a large packet are proof: on a line that loses
	// a third of all packets chance does that once in some hundred times.
	knockEnough = 4
)

// passes is what a measurement found of packets of a size.
type passes int

const (
	unknown passes = iota // nobody answers: the path is cut, or the peer is of an older build
	yes
	no // small ones are answered, these are not
)

// measure finds whether packets of a size reach an address. A peer that does not
// answer costs a few small packets.
func (k *knocks) measure(ctx context.Context, to net.Addr, size int) passes {
	answers := make(chan int, 2*knockRounds)
	heard, small := false, 0
	for range knockRounds {
		paired := heard
		if paired {
			defer k.ask(to, size, answers)()
		}
		defer k.ask(to, knockSmall, answers)()
		pause := time.NewTimer(knockPause)
		for waiting := true; waiting; {
			select {
			case n := <-answers:
				if n == size {
					pause.Stop()
					return yes
				}
				if paired {
					small++
				}
				waiting, heard = paired, true
			case <-pause.C:
				waiting = false
			case <-ctx.Done():
				pause.Stop()
				return unknown
			}
		}
		pause.Stop()
		if small >= knockEnough {
			return no
		}
	}
	return unknown
}
