package store

import "sync"

// usage keeps the database open while somebody reads it. Pebble panics when it
// is used after Close; readers that come too late get [ErrClosed] instead, and
// wait while the database is being replaced. Inside, no other method that
// enters may be called.
type usage struct {
	mu     sync.Mutex // guards the fields below
	cond   *sync.Cond // signals changes of them
	n      int
	paused bool
	closed bool
}

func newUsage() *usage {
	u := &usage{}
	u.cond = sync.NewCond(&u.mu)
	return u
}

// enter lets a reader in; it must leave.
func (u *usage) enter() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.paused && !u.closed {
		u.cond.Wait()
	}
	if u.closed {
		return ErrClosed
	}
	u.n++
	return nil
}

func (u *usage) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 {
		u.cond.Broadcast()
	}
}

// pause makes readers wait and returns when nobody is inside; resume ends it.
func (u *usage) pause() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return ErrClosed
	}
	u.paused = true
	for u.n > 0 {
		u.cond.Wait()
	}
	return nil
}

func (u *usage) resume() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.paused = false
	u.cond.Broadcast()
}

// close lets nobody in any more and waits for those inside.
func (u *usage) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.cond.Broadcast()
	for u.n > 0 {
		u.cond.Wait()
	}
}
