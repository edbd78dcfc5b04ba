package bench

import (
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/tiers"
)

// The benchmark's own process drives the sites' processes over their standard
// input and output, one JSON object a line: first a setup, then one request at
// a time. Each request is answered by progress, an "accepted" once its
// measurement is armed, and a last line. A worker ends when its input does, so
// none outlives the benchmark. Times are Unix nanoseconds of the one clock that
// the machine's processes share.

// setup is a worker's first line.
type setup struct {
	Node      node.Config   `json:"node"`
	Engine    []string      `json:"engine"`
	Idle      time.Duration `json:"idle"`
	RedialMax time.Duration `json:"redial_max"`
}

// request asks for one thing.
type request struct {
	Fill    *fillRequest    `json:"fill,omitempty"`
	Pace    *paceRequest    `json:"pace,omitempty"`
	Edit    *editRequest    `json:"edit,omitempty"`
	Await   *awaitRequest   `json:"await,omitempty"`
	Observe *observeRequest `json:"observe,omitempty"`
	Backup  string          `json:"backup,omitempty"` // a file to write
	Status  bool            `json:"status,omitempty"`
	// Profile is a file for a CPU profile of the time that the request takes.
	Profile string `json:"profile,omitempty"`
}

// reply is one line of a worker's.
type reply struct {
	Addr     string  `json:"addr,omitempty"` // the first line: where it listens
	Accepted bool    `json:"accepted,omitempty"`
	Done     int     `json:"done,omitempty"` // progress, when Of is set
	Of       int     `json:"of,omitempty"`
	Last     bool    `json:"last,omitempty"`
	Error    string  `json:"error,omitempty"`
	Result   *result `json:"result,omitempty"`
}

// result is what a request came to; each fills in its own part.
type result struct {
	Filled  *filled   `json:"filled,omitempty"`
	Paced   []written `json:"paced,omitempty"`
	Awaited *awaited  `json:"awaited,omitempty"`
	// Seen is when each observed event could be read, 0 for never.
	Seen   []int64 `json:"seen,omitempty"`
	Status *status `json:"status,omitempty"`
}

// fillRequest writes events 0 to N-1 as fast as they go.
type fillRequest struct {
	N    int    `json:"n"`
	Seed uint64 `json:"seed"`
}

type filled struct {
	Seconds float64 `json:"seconds"`
	// JSONBytes are those of the documents.
	JSONBytes int64 `json:"json_bytes"`
}

// paceRequest writes events First to First+N-1 at PerS.
type paceRequest struct {
	First     int     `json:"first"`
	N         int     `json:"n"`
	PerS      float64 `json:"per_s"`
	Seed      uint64  `json:"seed"`
	Priority  int     `json:"priority"`
	TextBytes int     `json:"text_bytes"`
}

// written is when a write began and when it was acknowledged.
type written struct {
	Began int64 `json:"began"`
	Acked int64 `json:"acked"`
}

// editRequest corrects D of the N events of a filling; Round makes each time
// another correction.
type editRequest struct {
	N     int    `json:"n"`
	D     int    `json:"d"`
	Round int    `json:"round"`
	Seed  uint64 `json:"seed"`
}

// head is how far a chain goes.
type head struct {
	Stream tiers.StreamID `json:"stream"`
	Author crdt.Author    `json:"author"`
	Seq    uint64         `json:"seq"`
}

// awaitRequest waits until everything that it names has come about.
type awaitRequest struct {
	// Peer's link: Link waits until a new one is up, Down until there is none,
	// Equal until both ends have proven that they hold the same.
	Peer  tiers.SiteID `json:"peer"`
	Link  bool         `json:"link"`
	Down  bool         `json:"down"`
	Equal bool         `json:"equal"`
	// Heads must be held, which is: fsynced and applied.
	Heads []head `json:"heads"`
	// First waits for a first event that a list shows, Views until every view is
	// up to date.
	First bool `json:"first"`
	Views bool `json:"views"`
}

// awaited is when that was; 0 for what was not asked for.
type awaited struct {
	Link  int64   `json:"link"`
	Equal int64   `json:"equal"`
	Heads []int64 `json:"heads"`
	First int64   `json:"first"`
	Views int64   `json:"views"`
	// CPUS is what the process and its engines used meanwhile.
	CPUS float64 `json:"cpu_s"`
}

// observeRequest notes when each of the paced events 0 to N-1 can be read.
type observeRequest struct {
	N int `json:"n"`
}

// status is what a site holds and costs.
type status struct {
	Heads []head `json:"heads"`
	// RSSMB is the process's peak so far, EnginesMB that of its engines.
	RSSMB     float64 `json:"rss_mb"`
	EnginesMB float64 `json:"engines_mb"`
}

// stored is when the last of the heads was held.
func (a *awaited) stored() (at int64) {
	for _, t := range a.Heads {
		at = max(at, t)
	}
	return at
}

// seconds is the time from one stamp to another.
func seconds(from, to int64) float64 { return float64(to-from) / float64(time.Second) }
