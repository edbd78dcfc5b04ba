package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// Addresses: nodes are 10.77.0.1 and up, gateway is the hub's on each of its
// devices.
const (
	gateway  = "169.254.1.1"
	hostsMax = 1<<16 - 2
)

// network is the hub and what is set there.
type network struct {
	hub string

	mu    sync.Mutex // guards the fields below
	state state
	used  int // addresses
	tuns  map[way]*tun
}

// openNetwork makes the hub. When it fails, the namespace may be there.
func openNetwork(prefix string) (*network, error) {
	n := &network{hub: prefix + "-hub", tuns: map[way]*tun{}, state: state{
		hosts: map[tiers.SiteID][]netip.Addr{}, lines: map[way]scenario.Line{}, alone: map[tiers.SiteID]bool{}, marks: map[way]int{},
	}}
	const forward = "echo 1 >/proc/sys/net/ipv4/ip_forward && for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done"
	for _, step := range [][]string{
		{"ip", "netns", "add", n.hub},
		inside(n.hub, "sh", "-c", forward), // before any device, which take it over
		{"ip", "-n", n.hub, "link", "set", "lo", "up"},
	} {
		if err := tool("", step...); err != nil {
			return nil, err
		}
	}
	return n, tool(baseRules, inside(n.hub, "nft", "-f", "-")...)
}

// add makes a namespace for a node of a site, with a line to the hub, and returns
// the node's address there.
func (n *network) add(site tiers.SiteID, ns string) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.used == hostsMax {
		return netip.Addr{}, fmt.Errorf("%w: more than %d nodes", ErrConfig, hostsMax)
	}
	n.used++
	addr := netip.AddrFrom4([4]byte{10, 77, byte(n.used >> 8), byte(n.used)})
	v := fmt.Sprint("v", n.used)
	for _, step := range []struct {
		at, do string
	}{
		{"", "netns add " + ns},
		{"", fmt.Sprintf("link add %s netns %s type veth peer name eth0 netns %s", v, n.hub, ns)},
		{n.hub, fmt.Sprintf("addr add %s/32 dev %s\nlink set %s up\nroute add %s/32 dev %s", gateway, v, v, addr, v)},
		{ns, fmt.Sprintf("link set lo up\nlink set eth0 gso_max_segs 1 up\naddr add %s/32 dev eth0\nroute add %s dev eth0\nroute add default via %s dev eth0", addr, gateway, gateway)},
	} {
		if err := ip(step.at, step.do); err != nil {
			return netip.Addr{}, fmt.Errorf("make namespace %s: %w", ns, err)
		}
	}
	n.state.hosts[site] = append(n.state.hosts[site], addr)
	return addr, n.apply()
}

// ip runs commands of ip, one a line, in a namespace or in none.
func ip(ns, commands string) error {
	if first, rest, _ := strings.Cut(commands, " "); first == "netns" {
		return tool("", append([]string{"ip", first}, strings.Fields(rest)...)...)
	}
	if ns == "" {
		return tool(commands, "ip", "-batch", "-")
	}
	return tool(commands, "ip", "-n", ns, "-batch", "-")
}

// apply brings the rules to the state. The lock is held: rules follow each other in
// the order of the changes.
func (n *network) apply() error {
	return tool(n.state.rules(), inside(n.hub, "nft", "-f", "-")...)
}

// set sets lines, all at once.
func (n *network) set(lines map[way]scenario.Line) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w, l := range lines {
		if err := n.shape(w, l); err != nil {
			return fmt.Errorf("line from %s to %s: %w", w.from, w.to, err)
		}
		n.state.lines[w] = l
	}
	return n.apply()
}

// isSet reports whether a line was ever set.
func (n *network) isSet(w way) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.state.lines[w]
	return ok
}

// isolate cuts a site off, or ends that.
func (n *network) isolate(site tiers.SiteID, cut bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.alone[site] = cut
	return n.apply()
}

// shape makes and sets the device of a line, when it needs one.
func (n *network) shape(w way, l scenario.Line) error {
	t := n.tuns[w]
	if !shapes(l) {
		return nil // what is under way in the device still arrives
	}
	if t == nil {
		mark := len(n.tuns) + 1
		t, err := openTun(n.hub, fmt.Sprint("s", mark))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("%w: a rate or a delay: %w", run.ErrUnsupported, err)
		}
		if err != nil {
			return err
		}
		n.tuns[w], n.state.marks[w] = t, mark
		err = ip(n.hub, fmt.Sprintf("link set %s mtu 1500 txqueuelen 1000 up\nroute add default dev %s table %d\nrule add fwmark %d lookup %d",
			t.name, t.name, tableOf(mark), mark, tableOf(mark)))
		if err != nil {
			return err
		}
	}
	t = n.tuns[w]
	t.delay.Store(int64(l.Delay))
	if l.BitsPerSecond == t.rate {
		return nil
	}
	t.rate = l.BitsPerSecond
	if l.BitsPerSecond == 0 {
		return tool("", inside(n.hub, "tc", "qdisc", "delete", "dev", t.name, "root")...)
	}
	return tool("", append(inside(n.hub, "tc", "qdisc", "replace", "dev", t.name, "root"), bucket(l.BitsPerSecond)...)...)
}

// tableOf is the routing table of a mark, beyond those that have names.
func tableOf(mark int) int { return 1000 + mark }

// What a shaped line's bucket holds and what waits for it: the bucket must bear
// what the rate lets through between two ticks of a slow kernel clock.
const (
	burstTime = 20 * time.Millisecond
	queueTime = 200 * time.Millisecond
	burstMin  = 2 << 10
	queueMin  = 12_000
)

// bucket is the queue of a line with a rate, as tc takes it.
func bucket(bitsPerSecond int64) []string {
	bytes := float64(bitsPerSecond) / 8
	burst := max(int(bytes*burstTime.Seconds()), burstMin)
	limit := burst + max(int(bytes*queueTime.Seconds()), queueMin)
	return []string{"tbf", "rate", fmt.Sprint(bitsPerSecond, "bit"), "burst", fmt.Sprint(burst), "limit", fmt.Sprint(limit)}
}

// sentBytes returns the UDP payload bytes that nodes have sent.
func (n *network) sentBytes() (uint64, error) {
	text, err := output("", inside(n.hub, "nft", "list", "counter", "ip", "lines", "sent")...)
	if err != nil {
		return 0, err
	}
	f := strings.Fields(text)
	for i := range f {
		if f[i] == "packets" && i+3 < len(f) && f[i+2] == "bytes" {
			packets, err1 := strconv.ParseUint(f[i+1], 10, 64)
			bytes, err2 := strconv.ParseUint(f[i+3], 10, 64)
			return bytes - min(bytes, packets*scenario.HeaderBytes), errors.Join(err1, err2)
		}
	}
	return 0, fmt.Errorf("read counter: %q", text)
}

// close takes the devices away; the namespaces are the record's business.
func (n *network) close() (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.tuns {
		err = errors.Join(err, t.close())
	}
	return err
}
