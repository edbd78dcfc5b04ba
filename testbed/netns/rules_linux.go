package netns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// baseRules is the hub's table. Datagrams from nodes come in by devices v1, v2, …,
// those that were held for a delay by s1, s2, …; a mark is the number of the
// device that the hub routes a datagram to.
const baseRules = `table ip lines {
	counter sent {
	}
	set siblings {
		type ipv4_addr . ipv4_addr
	}
	set cut {
		type ipv4_addr . ipv4_addr
	}
	set alone {
		type ipv4_addr
	}
	map narrow {
		type ipv4_addr . ipv4_addr : verdict
	}
	map lossy {
		type ipv4_addr . ipv4_addr : verdict
	}
	map shaped {
		type ipv4_addr . ipv4_addr : mark
	}
	chain pass {
		type filter hook prerouting priority -150; policy accept;
		iifname "v*" meta l4proto udp counter name sent
		ip saddr . ip daddr @siblings accept
		ip saddr . ip daddr @cut drop
		ip saddr @alone drop
		ip daddr @alone drop
		iifname "s*" accept
		ip saddr . ip daddr vmap @narrow
		ip saddr . ip daddr vmap @lossy
		meta mark set ip saddr . ip daddr map @shaped
	}
}
`

// lossUnits is the resolution of a loss.
const lossUnits = 100_000

// way is a line in one direction.
type way struct{ from, to tiers.SiteID }

// state is what the rules follow from.
type state struct {
	hosts map[tiers.SiteID][]netip.Addr
	lines map[way]scenario.Line
	alone map[tiers.SiteID]bool
	// marks are the devices of shaped lines.
	marks map[way]int
}

// rules returns the transaction that brings the table to the state.
func (s state) rules() string {
	var b strings.Builder
	elements := map[string][]string{}
	for w, l := range s.lines {
		pairs := s.pairs(w.from, w.to)
		if l.Cut {
			elements["set cut"] = append(elements["set cut"], pairs...)
		}
		if l.MTU > 0 {
			chain := fmt.Sprint("mtu", l.MTU)
			fmt.Fprintf(&b, "add chain ip lines %s\nflush chain ip lines %s\nadd rule ip lines %s ip length > %d drop\n", chain, chain, chain, l.MTU)
			elements["map narrow"] = append(elements["map narrow"], suffixed(pairs, " : jump "+chain)...)
		}
		if loss := int(l.Loss*lossUnits + 0.5); loss > 0 {
			chain := fmt.Sprint("loss", loss)
			fmt.Fprintf(&b, "add chain ip lines %s\nflush chain ip lines %s\n", chain, chain)
			chance := fmt.Sprintf("numgen random mod %d < %d ", lossUnits, loss)
			if loss >= lossUnits {
				chance = "" // nft refuses a comparison that always holds
			}
			fmt.Fprintf(&b, "add rule ip lines %s %sdrop\n", chain, chance)
			elements["map lossy"] = append(elements["map lossy"], suffixed(pairs, " : jump "+chain)...)
		}
		if mark := s.marks[w]; mark > 0 && shapes(l) {
			elements["map shaped"] = append(elements["map shaped"], suffixed(pairs, fmt.Sprint(" : ", mark))...)
		}
	}
	for site, hosts := range s.hosts {
		elements["set siblings"] = append(elements["set siblings"], s.pairs(site, site)...)
		for _, host := range hosts {
			if s.alone[site] {
				elements["set alone"] = append(elements["set alone"], host.String())
			}
		}
	}
	for _, kind := range []string{"set siblings", "set cut", "set alone", "map narrow", "map lossy", "map shaped"} {
		what, name, _ := strings.Cut(kind, " ")
		fmt.Fprintf(&b, "flush %s ip lines %s\n", what, name)
		if all := elements[kind]; len(all) > 0 {
			slices.Sort(all)
			fmt.Fprintf(&b, "add element ip lines %s { %s }\n", name, strings.Join(all, ", "))
		}
	}
	return b.String()
}

// pairs are the nodes of two sites, or the different ones of a site.
func (s state) pairs(from, to tiers.SiteID) (pairs []string) {
	for _, a := range s.hosts[from] {
		for _, b := range s.hosts[to] {
			if a != b {
				pairs = append(pairs, fmt.Sprint(a, " . ", b))
			}
		}
	}
	return pairs
}

func suffixed(pairs []string, suffix string) []string {
	out := make([]string, len(pairs))
	for i, p := range pairs {
		out[i] = p + suffix
	}
	return out
}

// shapes reports whether a line needs a device of its own.
func shapes(l scenario.Line) bool { return l.BitsPerSecond > 0 || l.Delay > 0 }
