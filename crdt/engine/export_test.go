package engine

import (
	"context"
	"io"
)

// hooked calls a function before each job.
type hooked struct{ before func(loaded []byte) }

func (h hooked) run(ctx context.Context, j job) ([]byte, error) {
	h.before(j.Loaded)
	return direct{}.run(ctx, j)
}

// WorkHooked is Work with a function that is called before each job.
func WorkHooked(cfg WorkerConfig, in io.Reader, out io.Writer, before func(loaded []byte)) error {
	return work(cfg, hooked{before}, in, out)
}

// Library returns e without what it does by itself: every document goes through
// the Automerge library.
func Library(e *Engine) *Engine {
	l := *e
	l.library = true
	return &l
}
