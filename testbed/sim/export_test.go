package sim

import (
	"net"
	"net/netip"

	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// Disk and its modes, for tests.
type Disk = disk

var NewDisk = newDisk

const (
	Unflushable = unflushable
	Full        = full
)

// Set, Strike and Crash are the disk's.
func (d *disk) Set(m mode)   { d.set(m) }
func (d *disk) Strike()      { d.strike() }
func (d *disk) Crash() error { return d.crash() }

// Network is a network, for tests.
type Network = network

var NewNetwork = newNetwork

// Open, SetLine and Bytes are the network's.
func (n *network) Open(site tiers.SiteID, addr netip.AddrPort) net.PacketConn {
	return n.open(site, addr)
}
func (n *network) SetLine(from, to tiers.SiteID, l scenario.Line) { n.set(from, to, l) }
func (n *network) Bytes() uint64                                  { return n.bytes() }
