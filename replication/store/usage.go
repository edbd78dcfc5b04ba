package store

import "sync"

// usage keeps the database open while somebody reads it. Pebble panics when it
// is used after Close; readers that come too late get [ErrClosed] instead. It
// is not an RWMutex, since a reader may call the store again from a callback.
type usage struct {
	mu     sync.Mutex // guards the fields below
	cond   *sync.Cond // signals readers going to 0
	n      int
	closed bool
}

// enter lets a reader in; it must leave.
func (u *usage) enter() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return ErrClosed
	}
	u.n++
	return nil
}

func (u *usage) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.cond != nil {
		u.cond.Broadcast()
	}
}

// close lets nobody in any more and waits for those inside.
func (u *usage) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.cond == nil {
		u.cond = sync.NewCond(&u.mu)
	}
	for u.n > 0 {
		u.cond.Wait()
	}
}
