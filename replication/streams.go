package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Streams connects the nodes of a site; package transport has it.
type Streams interface {
	net.Listener
	// Dial opens a stream to a node, and to no other one, at an address. Closing
	// a stream cancels both of its directions.
	Dial(ctx context.Context, node uint32, addr string) (net.Conn, error)
}

// rpcTimeout bounds one message to another node and its answer. A node that is
// gone is noticed sooner, by the streams' own time limit.
const rpcTimeout = 10 * time.Second

// errServerID reports a stream that is meant for another disk.
var errServerID = errors.New("replication: message for another disk of this node")

// numbered is the version of the protocol between nodes from which on a stream begins
// with formats.
const numbered = 2

// protocolOf returns the version of the protocol that the other end of a stream speaks.
// Streams that do not say are numbered.
func protocolOf(c net.Conn) int {
	if v, ok := c.(interface{ Protocol() int }); ok {
		return v.Protocol()
	}
	return numbered
}

// streamLayer carries Raft over Streams. A server's address is "ID@host:port":
// each stream begins with the length and the bytes of the identity that it is
// meant for, so that a node with a new disk never gets what was meant for the
// old one. Before it, where both ends know of them, go two numbers of four bytes: the
// newest format that the dialling node reads, and the site's as that node has it. A
// node that cannot read the site's format, or is of a build before there were
// numbers while the site is past those, gets no stream and opens none: it can neither
// follow, nor vote, nor lead.
type streamLayer struct {
	cfg  Config
	id   raft.ServerID
	site func() uint32 // the site's format, as this node has it

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex // guards the fields below
	open   map[net.Conn]struct{}
	closed bool
}

var _ raft.StreamLayer = (*streamLayer)(nil)

func newStreamLayer(cfg Config, id raft.ServerID, site func() uint32) *streamLayer {
	l := &streamLayer{cfg: cfg, id: id, site: site, open: map[net.Conn]struct{}{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

func serverAddress(id raft.ServerID, addr string) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + addr)
}

// nodeOf returns the number of the node that a server identity is of.
func nodeOf(id string) (uint32, error) {
	number, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: %q is no server identity", ErrBadCommand, id)
	}
	return uint32(n), nil
}

// Dial implements [raft.StreamLayer].
func (l *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, _ := strings.Cut(string(address), "@")
	node, err := nodeOf(id)
	if err != nil {
		return nil, err
	}
	if l.cfg.Siblings.Address != nil {
		if now, ok := l.cfg.Siblings.Address(node); ok {
			addr = now
		}
	}
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	c, err := l.cfg.Siblings.Streams.Dial(ctx, node, addr)
	if err != nil {
		return nil, err
	}
	var head []byte
	switch site := l.site(); {
	case protocolOf(c) >= numbered:
		head = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, l.cfg.Siblings.Format), site)
	case site > formatPlain:
		return nil, errors.Join(fmt.Errorf("%w: node %d has a build that cannot read the site's format %d: install this build there", ErrFormat, node, site), c.Close())
	}
	if _, err := c.Write(append(append(head, byte(len(id))), id...)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return l.keep(&layerStream{Conn: c, l: l})
}

// Accept implements [net.Listener].
func (l *streamLayer) Accept() (net.Conn, error) {
	c, err := l.cfg.Siblings.Streams.Accept()
	if err != nil {
		return nil, err
	}
	return l.keep(&layerStream{Conn: c, l: l, id: string(l.id)})
}

// keep notes an open stream, so that Close ends it.
func (l *streamLayer) keep(c *layerStream) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(net.ErrClosed, c.Conn.Close())
	}
	l.open[c] = struct{}{}
	return c, nil
}

// Close implements [net.Listener]. It ends every stream, too, so that nobody
// waits for a node that does not answer.
func (l *streamLayer) Close() error {
	l.stop()
	err := l.cfg.Siblings.Streams.Close()
	l.mu.Lock()
	l.closed = true
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	for _, c := range open {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Addr implements [net.Listener].
func (l *streamLayer) Addr() net.Addr {
	return layerAddr(serverAddress(l.id, l.cfg.Siblings.Advertise))
}

type layerAddr string

// Network implements [net.Addr].
func (layerAddr) Network() string { return "raft" }

// String implements [net.Addr].
func (a layerAddr) String() string { return string(a) }

// layerStream is one of Raft's streams. An accepted one checks, before its first
// byte is read, whom it is meant for.
type layerStream struct {
	net.Conn
	l  *streamLayer
	id string // to check for; empty when there is nothing left to check
}

// Close implements [net.Conn].
func (s *layerStream) Close() error {
	s.l.mu.Lock()
	delete(s.l.open, s)
	s.l.mu.Unlock()
	return s.Conn.Close()
}

// formats reads the formats with which a stream begins, and refuses those that do not
// go together.
func (s *layerStream) formats() error {
	site, reads := s.l.site(), s.l.cfg.Siblings.Format
	if protocolOf(s.Conn) < numbered {
		if site > formatPlain {
			return fmt.Errorf("%w: the node at %s has a build that cannot read the site's format %d: install this build there", ErrFormat, s.RemoteAddr(), site)
		}
		return nil
	}
	var head [8]byte
	if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
		return io.EOF // a stream that nobody used
	}
	theirs, theirSite := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:])
	switch {
	case theirs < site:
		return fmt.Errorf("%w: the node at %s reads up to format %d, the site's is %d: install this build there", ErrFormat, s.RemoteAddr(), theirs, site)
	case theirSite > reads:
		return fmt.Errorf("%w: the site's format is %d, this build reads up to %d: install a build that reads it", ErrFormat, theirSite, reads)
	}
	return nil
}

// Read implements [io.Reader]; one goroutine reads.
func (s *layerStream) Read(p []byte) (int, error) {
	if s.id != "" {
		if err := s.formats(); err != nil {
			return 0, err
		}
		head := make([]byte, 1, 256)
		if _, err := io.ReadFull(s.Conn, head); err != nil {
			return 0, io.EOF // a stream that nobody used
		}
		to := make([]byte, head[0])
		if _, err := io.ReadFull(s.Conn, to); err != nil {
			return 0, err
		}
		if string(to) != s.id {
			return 0, fmt.Errorf("%w: %q", errServerID, to)
		}
		s.id = ""
	}
	return s.Conn.Read(p)
}
