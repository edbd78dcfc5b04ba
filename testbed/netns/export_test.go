//go:build linux

package netns

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// Prefix returns the prefix of a world's namespaces.
func (w *World) Prefix() string { return w.record.prefix }

// Pids returns the processes in a world's namespaces.
func (w *World) Pids() (pids []string) {
	for _, m := range w.members() {
		if p := w.at(m); p.up() {
			pids = append(pids, strconv.Itoa(p.cmd.Process.Pid))
		}
	}
	return pids
}

// Left returns the namespaces and records of a prefix that are there.
func Left(prefix string) (left []string) {
	for _, pattern := range []string{namespaceDir + "/" + prefix + "-*", recordDir + "/" + prefix} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	return left
}

// Mounted reports whether something of this package is mounted below a directory.
func Mounted(dir string) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	return err != nil || strings.Contains(string(b), " "+dir+"/") && strings.Contains(string(b), mountSource)
}

// Gone reports whether a process has ended.
func Gone(pid string) bool {
	f := statFields(filepath.Join("/proc", pid))
	return len(f) == 0 || f[0] == "Z"
}

// Net is a network without nodes.
type Net struct {
	n      *network
	record *record
}

// OpenNet opens a network.
func OpenNet(dir string) (*Net, error) {
	r, err := newRecord(dir)
	if err != nil {
		return nil, err
	}
	n, err := openNetwork(r.prefix)
	return &Net{n, r}, err
}

// Listen adds a node for a site and opens a socket there.
func (n *Net) Listen(id tiers.SiteID) (conn *net.UDPConn, err error) {
	ns := n.record.prefix + "-" + string(id)
	addr, err := n.n.add(id, ns)
	if err != nil {
		return nil, err
	}
	err = within(ns, func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: addr.AsSlice(), Port: peerPort})
		return err
	})
	return conn, err
}

// Set sets a line.
func (n *Net) Set(from, to tiers.SiteID, l scenario.Line) error {
	return n.n.set(map[way]scenario.Line{{from, to}: l})
}

// Isolate cuts a site off, or ends that.
func (n *Net) Isolate(id tiers.SiteID, cut bool) error { return n.n.isolate(id, cut) }

// SentBytes returns what was sent.
func (n *Net) SentBytes() (uint64, error) { return n.n.sentBytes() }

// Close ends the network.
func (n *Net) Close() (left []string, err error) {
	err = n.n.close()
	if err == nil {
		err = sweep(n.record.prefix, "/nowhere")
	}
	if err == nil {
		err = n.record.remove()
	}
	return Left(n.record.prefix), err
}
