package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// hangup is what SIGHUP does to a command: it ends it in order, as SIGTERM does, unless
// the command has another use for it. Where it was ignored at the start, as under
// nohup, it stays ignored until the command has.
type hangup struct {
	signals chan os.Signal
	asked   atomic.Pointer[chan struct{}]
}

// hangupKey is the key of a context's hangup.
type hangupKey struct{}

// withHangup returns a context that SIGHUP ends; end gives up watching for it.
func withHangup(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	h := &hangup{signals: make(chan os.Signal, 1)}
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(h.signals, syscall.SIGHUP)
	}
	go func() { // ends with ctx
		for {
			select {
			case <-h.signals:
			case <-ctx.Done():
				return
			}
			asked := h.asked.Load()
			if asked == nil {
				cancel()
				return
			}
			select {
			case *asked <- struct{}{}:
			default: // one that was not served yet is enough
			}
		}
	}()
	return context.WithValue(ctx, hangupKey{}, h), func() {
		signal.Stop(h.signals)
		cancel()
	}
}

// onHangup makes SIGHUP a question to the command, which it finds in the channel.
func onHangup(ctx context.Context) <-chan struct{} {
	asked := make(chan struct{}, 1)
	if h, ok := ctx.Value(hangupKey{}).(*hangup); ok {
		h.asked.Store(&asked)
		signal.Notify(h.signals, syscall.SIGHUP)
	}
	return asked
}
