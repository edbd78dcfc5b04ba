package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Direction is one way through a relay.
type Direction int

// The directions: Up is from those who dial the relay to its target.
const (
	Up Direction = iota
	Down
)

// Count is what entered one direction of a line.
type Count struct {
	// Bytes are UDP payload; Handshake of them are long-header packets.
	Bytes, Handshake uint64
	Datagrams        uint64
	// Dropped are the datagrams that found the queue full.
	Dropped uint64
}

func (c Count) minus(o Count) Count {
	return Count{c.Bytes - o.Bytes, c.Handshake - o.Handshake, c.Datagrams - o.Datagrams, c.Dropped - o.Dropped}
}

// Counts are both directions'.
type Counts struct{ Up, Down Count }

// Minus returns what came after an earlier reading.
func (c Counts) Minus(o Counts) Counts { return Counts{c.Up.minus(o.Up), c.Down.minus(o.Down)} }

// Total returns the bytes of both directions.
func (c Counts) Total() uint64 { return c.Up.Bytes + c.Down.Bytes }

// Handshake returns the long-header bytes of both directions.
func (c Counts) Handshake() uint64 { return c.Up.Handshake + c.Down.Handshake }

// Bounds of a relay. A client beyond clientsMax is not served; datagrams beyond
// inFlightMax in one direction, where the delay holds them, are dropped.
const (
	clientsMax    = 4096
	inFlightMax   = 1 << 16
	datagramBytes = 64 << 10
	bufferBytes   = 4 << 20
)

// Relay is one line: whoever sends to its address reaches its target.
type Relay struct {
	front *net.UDPConn
	up    *way
	down  *way

	mu      sync.Mutex // guards the fields below
	target  netip.AddrPort
	clients map[netip.AddrPort]*net.UDPConn
	closed  bool

	running sync.WaitGroup
	done    chan struct{}
}

// way is one direction at work.
type way struct {
	relay *Relay
	cut   atomic.Bool
	queue chan parcel

	mu    sync.Mutex // guards the fields below
	line  Line
	count Count
}

// parcel is a datagram under way.
type parcel struct {
	at   time.Time
	data []byte
	from *net.UDPConn
	to   netip.AddrPort // invalid: from is connected
}

// Open starts a relay on a free port of loopback. Before [Relay.SetTarget] it
// drops everything. The caller must Close it. The error wraps [ErrShape].
func Open(shape Shape) (*Relay, error) {
	if err := shape.Validate(); err != nil {
		return nil, err
	}
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("open relay: %w", err)
	}
	sizeBuffers(front)
	r := &Relay{front: front, clients: map[netip.AddrPort]*net.UDPConn{}, done: make(chan struct{})}
	for _, w := range []**way{&r.up, &r.down} {
		*w = &way{relay: r, queue: make(chan parcel, inFlightMax), line: *NewLine(shape)}
		r.running.Go((*w).deliver) // ends with done
	}
	r.running.Go(r.forward) // ends when front is closed
	return r, nil
}

// sizeBuffers asks for buffers that bear a burst; the system may grant less.
func sizeBuffers(c *net.UDPConn) {
	_ = c.SetReadBuffer(bufferBytes)
	_ = c.SetWriteBuffer(bufferBytes)
}

// Addr returns the address to dial.
func (r *Relay) Addr() netip.AddrPort { return r.front.LocalAddr().(*net.UDPAddr).AddrPort() }

// SetTarget says where datagrams go from now on. Those who dialled an earlier
// target reach the new one when they send again.
func (r *Relay) SetTarget(to netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = to
	for from, back := range r.clients {
		_ = back.Close() // ends its goroutine
		delete(r.clients, from)
	}
}

// SetShape changes the line under what comes from now on. The error wraps
// [ErrShape].
func (r *Relay) SetShape(s Shape) error {
	if err := s.Validate(); err != nil {
		return err
	}
	for _, w := range []*way{r.up, r.down} {
		w.mu.Lock()
		w.line.shape = s.withDefaults()
		w.mu.Unlock()
	}
	return nil
}

// Cut drops everything from now on, both ways, also what is under way.
func (r *Relay) Cut() { r.setCut(true) }

// Heal ends a cut.
func (r *Relay) Heal() { r.setCut(false) }

func (r *Relay) setCut(cut bool) {
	r.up.cut.Store(cut)
	r.down.cut.Store(cut)
}

// Counts returns what entered the line so far.
func (r *Relay) Counts() Counts { return Counts{r.up.read(), r.down.read()} }

// Close ends the relay and waits for its goroutines. It is idempotent.
func (r *Relay) Close() error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	var err error
	if first {
		close(r.done)
		err = r.front.Close()
		for _, back := range r.clients {
			err = errors.Join(err, back.Close())
		}
	}
	r.mu.Unlock()
	r.running.Wait()
	return err
}

// forward takes in what clients send.
func (r *Relay) forward() {
	buf := make([]byte, datagramBytes)
	for {
		n, from, err := r.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP answer to an earlier datagram
		}
		if back := r.client(from); back != nil {
			r.up.enter(buf[:n], back, netip.AddrPort{})
		}
	}
}

// client returns the socket that stands for a client towards the target, nil
// when there is none to be had.
func (r *Relay) client(from netip.AddrPort) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if back := r.clients[from]; back != nil {
		return back
	}
	if r.closed || !r.target.IsValid() || len(r.clients) >= clientsMax {
		return nil
	}
	back, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(r.target))
	if err != nil {
		return nil // as lost as on a line: the client sends again
	}
	sizeBuffers(back)
	r.clients[from] = back
	r.running.Go(func() { r.backward(from, back) }) // ends when back is closed
	return back
}

// backward takes in what the target sends to one client.
func (r *Relay) backward(to netip.AddrPort, back *net.UDPConn) {
	buf := make([]byte, datagramBytes)
	for {
		n, err := back.Read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // nobody listens at the target yet
		}
		r.down.enter(buf[:n], r.front, to)
	}
}

// enter puts a datagram on the line, or drops it.
func (w *way) enter(data []byte, from *net.UDPConn, to netip.AddrPort) {
	if w.cut.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock() // several clients share the line, in order
	w.count.Bytes += uint64(len(data))
	w.count.Handshake += uint64(handshakeBytes(data))
	w.count.Datagrams++
	at, ok := w.line.Enter(time.Now(), len(data))
	if ok {
		select {
		case w.queue <- parcel{at, append([]byte(nil), data...), from, to}:
			return
		default:
		}
	}
	w.count.Dropped++
}

// deliver sends each datagram when its time has come. Errors are losses: the
// peers' business, as on a line.
func (w *way) deliver() {
	for {
		select {
		case p := <-w.queue:
			if wait := time.Until(p.at); wait > 0 {
				select {
				case <-time.After(wait):
				case <-w.relay.done:
					return
				}
			}
			switch {
			case w.cut.Load():
			case p.to.IsValid():
				_, _ = p.from.WriteToUDPAddrPort(p.data, p.to)
			default:
				_, _ = p.from.Write(p.data)
			}
		case <-w.relay.done:
			return
		}
	}
}

func (w *way) read() Count {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}
