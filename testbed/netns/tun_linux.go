package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// heldMax bounds the packets that a device holds for its delay; what comes beyond
// is lost.
const heldMax = 1 << 16

// packetMax is the size of the largest packet.
const packetMax = 64 << 10

// tun is the device of a shaped line in one direction: what the hub routes to it
// comes out again after a delay.
type tun struct {
	name    string
	file    *os.File
	rate    int64        // bits per second of its queue, zero for none; the network's lock guards it
	delay   atomic.Int64 // nanoseconds
	held    chan packet
	done    chan struct{}
	running sync.WaitGroup
	once    sync.Once
}

type packet struct {
	at   time.Time
	data []byte
}

// openTun makes a device in a namespace. It goes when it is closed.
func openTun(ns, name string) (*tun, error) {
	t := &tun{name: name, held: make(chan packet, heldMax), done: make(chan struct{})}
	err := within(ns, func() (err error) {
		t.file, err = openDevice(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open device %s: %w", name, err)
	}
	t.running.Go(t.read)    // ends when the file is closed
	t.running.Go(t.deliver) // ends with done
	return t, nil
}

func openDevice(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// within calls f on a thread that is in a network namespace.
func within(ns string, f func() error) error {
	result := make(chan error, 1)
	go func() { result <- entered(ns, f) }() // on a thread of its own
	return <-result
}

// entered does the work of within. A thread that cannot be brought back is never
// used again: it ends with its goroutine, which is locked to it.
func entered(ns string, f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = home.Close() }()
	there, err := os.Open(filepath.Join(namespaceDir, ns))
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = there.Close() }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s: %w", ns, err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave namespace %s: %w", ns, back))
	}
	runtime.UnlockOSThread()
	return err
}

func (t *tun) read() {
	buf := make([]byte, packetMax)
	for {
		n, err := t.file.Read(buf)
		if err != nil {
			return // closed
		}
		p := packet{time.Now().Add(time.Duration(t.delay.Load())), append([]byte(nil), buf[:n]...)}
		select {
		case t.held <- p:
		default: // as lost as in a full queue on a line
		}
	}
}

// deliver puts packets back in the order in which they came.
func (t *tun) deliver() {
	for {
		select {
		case p := <-t.held:
			select {
			case <-time.After(time.Until(p.at)):
			case <-t.done:
				return
			}
			_, _ = t.file.Write(p.data) // what the hub does not take is lost
		case <-t.done:
			return
		}
	}
}

// close takes the device away. It is idempotent.
func (t *tun) close() (err error) {
	t.once.Do(func() {
		close(t.done)
		err = t.file.Close()
	})
	t.running.Wait()
	return err
}
