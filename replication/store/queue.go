package store

import (
	"sync"

	"github.com/tiermesh/tiermesh/crdt/change"
)

// dirtyQueueMax bounds the documents that the queue names. Past it the marks on
// disk are scanned, which costs more: a scan reads over the marks that were
// deleted.
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
// they did. The marks on disk are the truth; the queue saves looking for them,
// and reading back what was just written.
type dirtyQueue struct {
	mu    sync.Mutex // guards the fields below
	docs  []Dirty
	fresh int // bytes of the histories
	// scan says that the marks on disk hold documents that the queue does not
	// name; at is where the scan goes on.
	scan bool
	at   DocKey
	// again says that the queue overflowed since the scan began.
	again bool
}

func (q *dirtyQueue) add(docs ...Dirty) {
	q.mu.Lock()
	defer q.mu.Unlock()
	room := min(len(docs), dirtyQueueMax-len(q.docs))
	for _, d := range docs[:room] {
		if q.fresh += d.size(); q.fresh > freshBytesMax {
			q.fresh -= d.size()
			d.History = nil
		}
		q.docs = append(q.docs, d)
	}
	if room < len(docs) {
		q.again = q.again || q.scan
		q.scan = true
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

// reset forgets everything; with scan the next taker looks at the disk.
func (q *dirtyQueue) reset(scan bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.docs, q.fresh, q.scan, q.again, q.at = nil, 0, scan, false, DocKey{}
}

func (q *dirtyQueue) scanning() (after DocKey, scan bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.at, q.scan
}

// scanned notes how far a scan came; none found ends it, unless the queue
// overflowed meanwhile.
func (q *dirtyQueue) scanned(found []Dirty) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(found) > 0 {
		q.at = found[len(found)-1].Key
		return
	}
	q.scan, q.again, q.at = q.again, false, DocKey{}
}
