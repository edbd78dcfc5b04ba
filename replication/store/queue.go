package store

import "sync"

// dirtyQueueMax bounds the documents that the queue names. Past it the marks on
// disk are scanned, which costs more: a scan reads over the marks that were
// deleted.
const dirtyQueueMax = 16_384

// dirtyQueue hands out the documents that became dirty, in the order in which
// they did. The marks on disk are the truth; the queue saves looking for them.
type dirtyQueue struct {
	mu   sync.Mutex // guards the fields below
	docs []DocKey
	// scan says that the marks on disk hold documents that the queue does not
	// name; at is where the scan goes on.
	scan bool
	at   DocKey
	// again says that the queue overflowed since the scan began.
	again bool
}

func (q *dirtyQueue) add(docs []DocKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	room := min(len(docs), dirtyQueueMax-len(q.docs))
	q.docs = append(q.docs, docs[:room]...)
	if room < len(docs) {
		q.again = q.again || q.scan
		q.scan = true
	}
}

func (q *dirtyQueue) take(limit int) []DocKey {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(limit, len(q.docs))
	out := q.docs[:n:n]
	if q.docs = q.docs[n:]; len(q.docs) == 0 {
		q.docs = nil // let go of what was handed out
	}
	return out
}

// reset forgets everything; with scan the next taker looks at the disk.
func (q *dirtyQueue) reset(scan bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.docs, q.scan, q.again, q.at = nil, scan, false, DocKey{}
}

func (q *dirtyQueue) scanning() (after DocKey, scan bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.at, q.scan
}

// scanned notes how far a scan came; none found ends it, unless the queue
// overflowed meanwhile.
func (q *dirtyQueue) scanned(found []DocKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(found) > 0 {
		q.at = found[len(found)-1]
		return
	}
	q.scan, q.again, q.at = q.again, false, DocKey{}
}
