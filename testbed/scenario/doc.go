// Package scenario is the testbed's language: what federation to build, what to
// load it with, how to break it, what to wait for and what to expect. It reads and
// checks; package run plays.
//
// Layer 5. Pure.
//
// # Grammar
//
// A script is UTF-8 text with one command a line. From # on a line is a comment;
// the comments before the first command say the script's one idea. Capitals stand
// for words of one's own, brackets for what may be left out.
//
// What builds the federation comes first:
//
//	seed NUMBER                                   drives all that is random; 1
//	limit DURATION                                ends the run; 10m
//	site CODE city|district|township [NAME] [under PARENT]
//	chongqing [districts NUMBER|CODE…] [townships NUMBER]
//	nodes 1|3|5 at SITES                          1
//	line [RATE] [DELAY] [loss=N%] [mtu=N]         every line at the start: fast, without loss, 1500
//
// Load goes on while the script does, but for reports that are counted: those are
// waited for, as far as their site is up.
//
//	publish                                       the city's boards, tracks, types and rules
//	report COUNT|RATE/s [urgent] [from nyc311|made] at SITES [for DURATION]
//	claim RATE/s at SITES [for DURATION]          clients claim and release units
//	hush                                          ends every load
//
// The domain: what a line makes has a name, by which later lines mean it. A site that
// is down, or has not heard yet of what it is asked about, is asked again for 20 s; one
// that refuses then fails the run, and one that does not refuse what is refused here.
//
//	event NAME [urgent] [type CODE] at SITE       one event; the rules make its task
//	task EVENT MOVE [to SITE] at SITE             sign, dispose, feedback, verify, close, override, …
//	work RATE/s at SITES [for DURATION]           clients make moves on tasks, through their whole life
//	work RATE/s on orders at SITES                give orders and make their steps; on duplicates: report
//	                                              the same at two sites, merge and unmerge; on mode: switch it
//	unit NAME skill SKILL at SITE                 registers a unit
//	send UNIT [force] to WHAT at SITE             to an event's task or a place; recall UNIT at SITE frees it
//	ask NAME skill SKILL of SITE at SITE          asks another site for a unit
//	lend NAME UNIT… to SITE for DURATION at SITE  lends units to a site below
//	give-back NAME                                what was asked for or lent, at who has it
//	take-back NAME [force]                        a pool, at whose it is
//	aid RATE/s at SITES [for DURATION]            clients send, ask, lend and take back at random
//	rule CODE organ ORGAN [order NUMBER] [type CODE] [skill SKILL] [mode MODE] [to SITE] at SITE
//	duplicate NAME of EVENT at SITE               what an event reports is reported again, now
//	merge EVENT with EVENT at SITE                says that two are one
//	order NAME to SITES at SITE                   gives an order to sites below
//	order NAME STEP at SITE                       ack, execute, refuse, report at a target; cancel, remind at its issuer
//	mode emergency|normal for AREA at SITE        switches a site with all below it
//	refused COMMAND                               one of these that the site must refuse
//
// Faults:
//
//	cut A B          both ways; cut A->B one way
//	heal [A B]       ends what cut and slow did to a line; alone, all cuts and isolations
//	isolate SITES    from everything; rejoin SITES ends that
//	flap A B every DURATION down DURATION for DURATION
//	slow A B [RATE] [DELAY] [loss=N%] [mtu=N]
//	outages power|flood at SITES DURATION within DURATION
//	kill, start, pause, resume SITE               or of one node: kill 2 of SITE
//	disk-full, fsync-error, bitrot SITE           the first two until start
//	clock SITE +DURATION|-DURATION
//	backup, restore-backup, clone SITE            the latter two of the copy that backup made
//	reparent SITE under PARENT
//	reorganise                                    that of 2025-11-06, as far as its sites are there
//	upgrade SITE                                  it speaks the newer version from then on
//
// Waiting and judging:
//
//	after DURATION
//	until converged|acknowledged|A B linked within DURATION
//	until MEASURE of NAME [to SITES] [at SITES] [<|<=|=|>=|>] VALUE within DURATION
//	expect MEASURE [of NAME [to SITES] [at SITES]] [<|<=|=|>=|>] VALUE
//	expect linked|unlinked A B
//
// An mtu is of packets with their 28 bytes of IPv4 and UDP, on a hop between the sites,
// whose own interfaces stay at 1500: what is larger vanishes and nobody is told. Below
// 1228 no link is possible.
//
// SITES is a code, all, city, districts, townships, or "townships of CODE". A
// DURATION is 500ms, 30s, 5m, 2h or 72d; a RATE 500kbit, 100mbit. The measures are
// documented at their constants; those of something named are what each of the sites
// shows, of all that are to hold it when none are said; of an order, at each of the
// targets that come after to, or at all. The mode is also that of a site. A run holds
// when every expectation does and no oracle finds a violation. Where time is the
// machine's (local, netns), measures of time and of bytes are told and not judged, and
// what is waited for is missing after ten times as long, a minute at least.
package scenario
