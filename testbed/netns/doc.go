// Package netns runs each node of a federation as a real process of the tiermesh
// command, in a network namespace of its own. It is a [run.World] for Linux, as
// root; elsewhere [Check] says what is missing, and [World.Open] returns that.
//
// Layer 5. A [World] is safe for concurrent use, but for Open and Close; acts on
// one site do not overlap.
//
// # The network
//
// One namespace more is the hub: a router with a veth pair into the namespace of
// each node. Every datagram between two nodes passes it, so one nftables table
// there sees both ends of each line, and whatever is done to lines is one
// transaction. The host's own network is never touched: all devices, addresses,
// routes and rules are inside namespaces.
//
// A cut drops by source and destination address, one way; loss drops by chance,
// datagram by datagram (segmentation offload is off); an MTU drops what is larger and
// answers no ICMP, while the nodes' own interfaces stay at 1500; an isolation drops by either
// address. Nodes of one site always reach each other. What is dropped is dropped
// behind the sender, whose kernel would otherwise tell it.
//
// A line with a rate or a delay gets a device of its own in each direction, to
// which the hub routes what is marked for it: a tbf queue shapes what goes in,
// with room for 200 ms, and this process holds what comes out for the delay and
// puts it back, since the kernel's own means of delaying (netem) is not in every
// kernel. This needs /dev/net/tun. What was under way when a line is cut is lost.
//
// # Acts
//
// kill, pause and resume are SIGKILL, SIGSTOP and SIGCONT. backup stops the
// process with SIGSTOP, copies its data directory and lets it go on: the copy is
// what a copy of the disk would be, not what "tiermesh backup" makes, which a site
// could be restored from without harm. restore-backup kills the site, puts the copy
// back and starts it. clone starts a process of the same identity
// on another copy, in a namespace with another address, until the end; of a site of
// several nodes it is not possible. disk-full fills the data directory, for which a
// site that the script does it to has a small file system of its own (tmpfs);
// start makes room again. bitrot flips a bit in the middle of the largest table;
// a site without tables is restarted in order for it first, which writes one.
// Publish stops the city in order, writes the entries in this process to its
// store, and starts it again: the API has no command for it.
//
// A clock cannot be moved, a flush cannot be made to fail, and there is no newer
// version to start: these wrap [run.ErrUnsupported].
//
// # The end
//
// Processes die with this one, also when it is killed (PDEATHSIG; they are started
// by a thread that lives as long as the world). Namespaces outlive their maker, so
// each world has a file in /run/tiermesh-netns, named as the prefix of its
// namespaces, and holds a lock on it while it lives. [World.Open] first removes
// what such a file names and nobody holds a lock on.
package netns
