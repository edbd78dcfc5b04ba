package engine

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// frameBytesMax bounds a frame between a node and its worker.
const frameBytesMax = 256 << 20

// answer is what a job came to in a worker.
type answer struct {
	_    struct{} `cbor:",toarray"`
	Data []byte
	Err  string
}

// WorkerConfig bounds a worker process, from inside.
type WorkerConfig struct {
	// MemoryBytes is how much address space the worker may take beyond what it
	// has when it starts; zero means 1 GiB.
	MemoryBytes uint64
	// JobTimeout ends the worker when one batch takes longer; zero means 30 s.
	// The node ends it sooner; this is for a worker whose node is gone.
	JobTimeout time.Duration
}

// Work is a worker process: it carries out the batches of jobs that come in as
// length-prefixed CBOR, and answers each in the same form, until the input
// ends. Where the library aborts, the process does.
func Work(cfg WorkerConfig, in io.Reader, out io.Writer) error { return work(cfg, direct{}, in, out) }

func work(cfg WorkerConfig, r runner, in io.Reader, out io.Writer) error {
	if cfg.MemoryBytes == 0 {
		cfg.MemoryBytes = 1 << 30
	}
	if cfg.JobTimeout == 0 {
		cfg.JobTimeout = 30 * time.Second
	}
	if err := limitMemory(cfg.MemoryBytes); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(in, 256<<10)
	for {
		var jobs []job
		if err := readFrame(reader, &jobs); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		answers, err := perform(cfg, r, jobs)
		if err != nil {
			return err
		}
		if err := writeFrame(out, answers); err != nil {
			return err
		}
	}
}

// perform carries out a batch. After its time the process must end: the library
// cannot be interrupted.
func perform(cfg WorkerConfig, r runner, jobs []job) ([]answer, error) {
	answers := make([]answer, len(jobs))
	done := make(chan struct{})
	go func() { // ends with the batch, or the process
		defer close(done)
		for i, j := range jobs {
			data, err := r.run(context.Background(), j)
			answers[i].Data = data
			if err != nil {
				answers[i].Err = strings.TrimPrefix(err.Error(), ErrEngine.Error()+": ")
			}
		}
	}()
	limit := time.NewTimer(cfg.JobTimeout)
	defer limit.Stop()
	select {
	case <-done:
		return answers, nil
	case <-limit.C:
		return nil, fmt.Errorf("a batch took longer than %s", cfg.JobTimeout)
	}
}

// limitMemory bounds this process's address space.
func limitMemory(extra uint64) error {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	var pages uint64
	if _, err := fmt.Sscan(string(b), &pages); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	most := pages*uint64(os.Getpagesize()) + extra
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
		return fmt.Errorf("limit memory to %d bytes: %w", most, err)
	}
	return nil
}

func writeFrame(w io.Writer, v any) error {
	b, err := cbor.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > frameBytesMax {
		return fmt.Errorf("frame of %d bytes", len(b))
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > frameBytesMax {
		return fmt.Errorf("frame of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	dec, err := frameDecoder()
	if err != nil {
		return err
	}
	return dec.Unmarshal(b, v)
}

// frameDecoder is made once.
var frameDecoder = sync.OnceValues(func() (cbor.DecMode, error) {
	return cbor.DecOptions{FieldNameMatching: cbor.FieldNameMatchingCaseSensitive}.DecMode()
})
