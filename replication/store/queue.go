package store

import (
	"sync"

	"github.com/tiermesh/tiermesh/crdt/change"
)

// dirtyQueueMax bounds the documents that are kept track of in memory. Past it
// those of later commits are found by their marks on disk when these are due.
const dirtyQueueMax = 16_384

// freshBytesMax bounds what the queue, and a Tx, keep of new documents' changes.
const freshBytesMax = 8 << 20

// decodedOpBytes is about what an operation takes once it is decoded. Encoded, a
// hundred bytes may hold a hundred thousand of them.
const decodedOpBytes = 256

// freshBytes is what a change takes that is kept with its decoded form.
func freshBytes(raw []byte, c *change.Change) int { return len(raw) + int(c.Ops)*decodedOpBytes }

// Dirty is a document whose view is behind.
type Dirty struct {
	Key DocKey
	// History is its history as of now when that is at hand, as it is of a
	// document that was just created; nil when it must be read.
	History *Changes
}

// dirtyQueue hands out the documents that became dirty, in the order in which
// they did. It saves reading back what was just written; what is dirty is known
// from marks.
type dirtyQueue struct {
	mu    sync.Mutex // guards the fields below
	docs  []Dirty
	fresh int // bytes of the histories
}

func (q *dirtyQueue) add(docs ...Dirty) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, d := range docs {
		if q.fresh += d.size(); q.fresh > freshBytesMax {
			q.fresh -= d.size()
			d.History = nil
		}
		q.docs = append(q.docs, d)
	}
}

// size is what a history takes.
func (d Dirty) size() (n int) {
	if d.History != nil {
		for i, raw := range d.History.Raw {
			n += freshBytes(raw, d.History.Decoded[i])
		}
	}
	return n
}

func (q *dirtyQueue) take(limit int) []Dirty {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(limit, len(q.docs))
	out := q.docs[:n:n]
	for _, d := range out {
		q.fresh -= d.size()
	}
	if q.docs = q.docs[n:]; len(q.docs) == 0 {
		q.docs = nil // let go of what was handed out
	}
	return out
}

// reset forgets everything.
func (q *dirtyQueue) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.docs, q.fresh = nil, 0
}
