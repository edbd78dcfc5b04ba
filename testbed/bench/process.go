package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// ErrWorker reports a site's process that ended or answered with an error.
var ErrWorker = errors.New("bench: site process")

// endWait is how long a worker may take to end in order before it is killed.
const endWait = 30 * time.Second

// process is a worker as its driver sees it. It belongs to one goroutine, but
// for close.
type process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	enc     *json.Encoder
	replies chan reply    // closed when the worker's output ends
	quit    chan struct{} // closed when nobody takes replies any more
	exited  chan struct{} // closed when the process is gone
	logs    *tail
	addr    string

	closing sync.Once
}

// tail keeps the end of what is written to it. Safe for concurrent use.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

// tailBytes bounds what a tail keeps.
const tailBytes = 4 << 10

// Write implements [io.Writer].
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = t.text[over:]
	}
	return len(b), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// startProcess starts a worker and waits until its site takes writes.
func startProcess(ctx context.Context, command []string, s setup) (*process, error) {
	p := &process{
		cmd: exec.Command(command[0], command[1:]...), //nolint:gosec // this very program
		// Not buffered: a worker that says much is held back by its pipe.
		replies: make(chan reply), quit: make(chan struct{}), exited: make(chan struct{}), logs: &tail{},
	}
	p.cmd.Stderr = p.logs
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWorker, err)
	}
	p.enc = json.NewEncoder(p.in)
	go p.read(out) // ends with the worker's output
	if err := p.enc.Encode(s); err != nil {
		return nil, errors.Join(p.ended(), p.close())
	}
	first, err := p.next(ctx)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.addr = first.Addr
	return p, nil
}

// read takes the worker's lines until there are no more, then waits for its
// end.
func (p *process) read(out io.Reader) {
	defer close(p.exited)
	dec := json.NewDecoder(out)
	for {
		var r reply
		if dec.Decode(&r) != nil {
			break
		}
		select {
		case p.replies <- r:
		case <-p.quit: // the rest is drained for nobody
		}
	}
	close(p.replies)
	_ = p.cmd.Wait() // its exit code says no more than its last words
}

// ended is the error of a worker that is gone.
func (p *process) ended() error {
	return fmt.Errorf("%w ended: %s", ErrWorker, p.logs)
}

func (p *process) next(ctx context.Context) (reply, error) {
	select {
	case r, ok := <-p.replies:
		if !ok {
			return r, p.ended()
		}
		return r, nil
	case <-ctx.Done():
		return reply{}, context.Cause(ctx)
	}
}

// begin sends a request and returns when its measurement is armed; finish must
// follow.
func (p *process) begin(ctx context.Context, r request) error {
	if err := p.enc.Encode(r); err != nil {
		return p.ended()
	}
	for {
		got, err := p.next(ctx)
		switch {
		case err != nil:
			return err
		case got.Accepted:
			return nil
		case got.Last:
			return fmt.Errorf("%w: %s", ErrWorker, got.Error)
		}
	}
}

// finish waits for a request's result; progress may be nil.
func (p *process) finish(ctx context.Context, progress func(done, of int)) (*result, error) {
	for {
		got, err := p.next(ctx)
		switch {
		case err != nil:
			return nil, err
		case got.Last && got.Error != "":
			return nil, fmt.Errorf("%w: %s", ErrWorker, got.Error)
		case got.Last:
			return got.Result, nil
		case got.Of > 0 && progress != nil:
			progress(got.Done, got.Of)
		}
	}
}

// do is begin and finish.
func (p *process) do(ctx context.Context, r request, progress func(done, of int)) (*result, error) {
	if err := p.begin(ctx, r); err != nil {
		return nil, err
	}
	return p.finish(ctx, progress)
}

// close ends the worker in order and waits; it kills one that takes too long.
// It is idempotent.
func (p *process) close() (err error) {
	p.closing.Do(func() {
		close(p.quit)
		_ = p.in.Close() // which tells it to end
		select {
		case <-p.exited:
		case <-time.After(endWait):
			err = errors.Join(fmt.Errorf("%w did not end in %v and was killed: %s", ErrWorker, endWait, p.logs), p.cmd.Process.Kill())
		}
	})
	<-p.exited
	return err
}
