package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/node"
)

// Work is the process of one site of a link benchmark. It returns when its
// input or ctx ends.
func Work(ctx context.Context, in io.Reader, out, logs io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &worker{out: json.NewEncoder(out)}
	dec := json.NewDecoder(bufio.NewReader(in))
	var s setup
	if err := dec.Decode(&s); err != nil {
		return fmt.Errorf("%w: setup: %w", ErrConfig, err)
	}
	n, err := node.Open(s.Node, node.Options{
		Logger: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelError})),
		Engine: s.Engine, LinkIdle: s.Idle, RedialMax: s.RedialMax,
	})
	if err != nil {
		return err
	}
	w.node, w.views = n, n.Views().Subscribe()
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx); cancel() }() // ends with ctx or the node
	defer func() {
		cancel()
		err = errors.Join(err, <-ran)
	}()
	if err := n.Ready(ctx); err != nil {
		return err
	}
	if err := w.say(reply{Addr: n.Addr().String()}); err != nil {
		return err
	}
	requests := make(chan request)
	go func() { // ends with the input or ctx
		defer cancel()
		for {
			var r request
			if dec.Decode(&r) != nil {
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w.serve(ctx, requests)
}

// worker serves the requests to one node.
type worker struct {
	node  *node.Node
	views <-chan struct{} // receives after views changed

	mu  sync.Mutex // guards out
	out *json.Encoder
}

func (w *worker) say(r reply) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Encode(r)
}

// progress tells how far a request is; that it cannot be told is found later.
func (w *worker) progress(done, of int) { _ = w.say(reply{Done: done, Of: of}) }

func (w *worker) serve(ctx context.Context, requests <-chan request) error {
	for {
		select {
		case r := <-requests:
			out := reply{Last: true}
			res, err := w.profiled(ctx, r)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the end that was asked for
			}
			if err != nil {
				out.Error = err.Error()
			} else {
				out.Result = &res
			}
			if err := w.say(out); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// profiled carries a request out under a profile, when it wants one.
func (w *worker) profiled(ctx context.Context, r request) (res result, err error) {
	if r.Profile != "" {
		f, err := os.Create(r.Profile)
		if err != nil {
			return res, err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return res, errors.Join(err, f.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, f.Close())
		}()
	}
	return w.carryOut(ctx, r)
}

func (w *worker) carryOut(ctx context.Context, r request) (res result, err error) {
	if r.Await != nil {
		a, err := w.arm(*r.Await)
		if err != nil {
			return res, err
		}
		if err := w.say(reply{Accepted: true}); err != nil {
			return res, err
		}
		res.Awaited, err = a.run(ctx)
		return res, err
	}
	if err := w.say(reply{Accepted: true}); err != nil {
		return res, err
	}
	switch {
	case r.Fill != nil:
		res.Filled, err = w.fill(ctx, *r.Fill)
	case r.Pace != nil:
		res.Paced, err = w.pace(ctx, *r.Pace)
	case r.Edit != nil:
		err = w.edit(ctx, *r.Edit)
	case r.Observe != nil:
		res.Seen, err = w.observe(ctx, *r.Observe)
	case r.Backup != "":
		err = w.backup(r.Backup)
	case r.Status:
		res.Status = w.status()
	default:
		err = fmt.Errorf("%w: empty request", ErrConfig)
	}
	return res, err
}

func (w *worker) backup(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(w.node.Group().Backup(f), f.Sync(), f.Close())
}

func (w *worker) status() *status {
	var s status
	st := w.node.Group().Store()
	for _, stream := range st.Streams() {
		v := st.Vector(stream)
		for _, a := range v.Authors() {
			s.Heads = append(s.Heads, head{stream, a, v[a].Seq})
		}
	}
	s.RSSMB, s.EnginesMB = peakMB(os.Getpid()), 0
	for _, pid := range children() {
		s.EnginesMB += peakMB(pid)
	}
	return &s
}

// every calls f each interval until it returns true or an error.
func every(ctx context.Context, interval time.Duration, f func() (bool, error)) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
