package api

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// Backend is what a node offers. Implementations are safe for concurrent use;
// their errors wrap this package's sentinels.
type Backend interface {
	Sync
	Tasks
	Responders
	Indicators
	Tracks
	Catalogs
	Sharing
	Commands
	Events
	Aggregates
	Reviews
	Alarms
	// Status returns the state of the node and its links.
	Status(ctx context.Context) (Status, error)
	// Report takes in one event, durably.
	Report(ctx context.Context, r ReportRequest) (WriteResult, error)
	// List returns a page of views of one kind: events and tasks newest first,
	// everything else by name.
	List(ctx context.Context, q ListQuery) (Page, error)
	// View returns every document of a kind with a name, or the one whose name ends in
	// it; one name can stand in several streams.
	View(ctx context.Context, kind, name string) ([]json.RawMessage, error)
	// Resolve returns the identifier of a kind that a text names: in full, or by at
	// least [ShortMin] of its last characters where no other one ends in them.
	Resolve(ctx context.Context, kind, text string) (tiers.DocID, error)
	// Backup writes a consistent copy of the site's state, as an archive whose
	// last file is its manifest: without that it is not complete.
	Backup(ctx context.Context, w io.Writer) error
	// Scrub reads everything again and names what is damaged.
	Scrub(ctx context.Context) (ScrubReport, error)
	// Repair mends this node's damaged store from another node of its site.
	Repair(ctx context.Context, r RepairRequest) (RepairReport, error)
	// Topology returns the topology in force.
	Topology(ctx context.Context) (tiers.TopologyDoc, error)
	// PublishTopology publishes a topology, at the city, or says what it would
	// change.
	PublishTopology(ctx context.Context, r TopologyRequest) (TopologyResult, error)
}

// RepairRequest asks a node to mend its store.
type RepairRequest struct {
	// From names the member to copy from; empty for any that the others agree with.
	From string `json:"from,omitempty"`
}

// RepairReport is what a repair found and did. Without findings before it did
// nothing.
type RepairReport struct {
	Before []ScrubFinding `json:"before"`
	// From is the member whose copy the store is now, Index the entry that it
	// reflected then.
	From  string `json:"from"`
	Index uint64 `json:"index"`
	// Kept is the directory at the node to which the damaged state was moved.
	Kept string `json:"kept"`
	// Records and After are what a scrub read and found afterwards.
	Records uint64         `json:"records"`
	After   []ScrubFinding `json:"after"`
}

// ScrubReport is what a scrub read and found.
type ScrubReport struct {
	Chains      uint64         `json:"chains"`
	Records     uint64         `json:"records"`
	Checkpoints uint64         `json:"checkpoints"`
	Documents   uint64         `json:"documents"`
	TookS       float64        `json:"took_s"`
	Findings    []ScrubFinding `json:"findings"`
}

// ScrubFinding is something damaged, as far as it can be told where.
type ScrubFinding struct {
	Stream string      `json:"stream,omitempty"`
	Author string      `json:"author,omitempty"`
	Seq    uint64      `json:"seq,omitempty"`
	Doc    tiers.DocID `json:"doc,omitempty"`
	File   string      `json:"file,omitempty"`
	What   string      `json:"what"`
}

// ReportRequest reports an event under an idempotency key.
type ReportRequest struct {
	// Key makes a retry safe: the same key gives the first report's result.
	Key    string       `json:"key"`
	Report event.Report `json:"report"`
	// ID is the event's identifier, a UUID that the client made: by it an app without a
	// connection can refer to the event. It takes the key's place: the same report
	// again is the first one, another report with it is refused.
	ID string `json:"id,omitempty"`
	// Quarantine keeps a report that breaks a rule, instead of refusing it.
	Quarantine bool `json:"quarantine,omitempty"`
	// Raw is a report that cannot be read and is to be kept, as it came, and Unread why;
	// nil for one that can.
	Raw    []byte `json:"-"`
	Unread error  `json:"-"`
}

// EditRequest sets fields of a track in the stream of a site.
type EditRequest struct {
	Key    string            `json:"key"`
	Site   tiers.SiteID      `json:"site"`
	Code   string            `json:"code"`
	Fields map[string]string `json:"fields"`
	// Confirm writes fields that have these values already, too: as confirmed by this
	// site now. Else they are left alone.
	Confirm bool `json:"confirm,omitempty"`
}

// WriteResult says where a write stands.
type WriteResult struct {
	ID     tiers.DocID `json:"id"`
	Stream string      `json:"stream"`
	Seq    uint64      `json:"seq"`
	// Held says why a report stands in quarantine and is no event yet; its status is
	// 202 then. Field is the field that this is about, if any.
	Held  string `json:"held,omitempty"`
	Field string `json:"field,omitempty"`
	// Waits says that it is not on its way up yet, and since when.
	Waits *Waits `json:"waits,omitempty"`
}

// The kinds that can be listed.
var kinds = []string{"event", "task", "track", "board", "type", "rule", "plan", "calendar", "responder", "unitrequest", "pool", "indicator", "adoption", "install", "replication", "capacity", "order", "receipt", "silence"}

// ListQuery selects a page.
type ListQuery struct {
	Kind string
	// Site restricts to one site's streams; empty for all.
	Site tiers.SiteID
	// Limit is the page size, 1 to 1,000; zero means 50.
	Limit int
	// After is the Next of the page before; empty for the first.
	After string
}

// Page is one page of views.
type Page struct {
	Items []json.RawMessage `json:"items"`
	// Next continues behind this page; empty at the end.
	Next string `json:"next,omitempty"`
}

// Status is the state of a node.
type Status struct {
	Site            tiers.SiteID `json:"site"`
	Name            string       `json:"name"`
	Tier            string       `json:"tier"`
	Node            uint32       `json:"node"`
	Federation      string       `json:"federation"`
	Incarnation     uint32       `json:"incarnation"`
	TopologyVersion uint64       `json:"topology_version"`
	Role            string       `json:"role"`
	AppliedIndex    uint64       `json:"applied_index"`
	Records         uint64       `json:"records"`
	ViewsDirty      uint64       `json:"views_dirty"`
	Refused         uint64       `json:"refused_records"`
	UptimeS         float64      `json:"uptime_s"`
	Links           []LinkStatus `json:"links"`
	Findings
}

// Findings are what an operator should see.
type Findings struct {
	// Alarms are the node's findings that nobody has acknowledged, as lines.
	Alarms []string `json:"alarms"`
	// Forks are the chains of which records were set aside here.
	Forks []ForkStatus `json:"forks"`
	// CertificateEnds is until when the node's own certificate is valid; after that no
	// peer links to it. Nil from a node of an earlier build.
	CertificateEnds *time.Time `json:"certificate_ends,omitempty"`
}

// ForkStatus is a chain that its site wrote twice, and of which this site gave
// one side up.
type ForkStatus struct {
	Stream string `json:"stream"`
	Author string `json:"author"`
	// Kept is how many records of the chain stayed, Aside how many were set aside.
	Kept  uint64 `json:"kept"`
	Aside uint64 `json:"aside"`
}

// LinkStatus is the state of one link.
type LinkStatus struct {
	Peer     tiers.SiteID `json:"peer"`
	PeerName string       `json:"peer_name"`
	// State is connected, connecting, refused or down; or retired, of a site that the
	// topology has retired and that goes on dialling.
	State       string     `json:"state"`
	Since       time.Time  `json:"since"`
	LastContact *time.Time `json:"last_contact,omitempty"`
	// OwedOut and OwedIn are records that the other end and this one are known
	// to lack; of a link that is down, as of its last session.
	OwedOut       uint64  `json:"owed_out"`
	OwedIn        uint64  `json:"owed_in"`
	SentBytes     uint64  `json:"sent_bytes"`
	ReceivedBytes uint64  `json:"received_bytes"`
	RTTMS         float64 `json:"rtt_ms"`
	// Equal says that both ends are proven to hold the same now.
	Equal         bool       `json:"equal"`
	ProvenEqualAt *time.Time `json:"proven_equal_at,omitempty"`
	Digest        string     `json:"digest,omitempty"`
	LastError     string     `json:"last_error,omitempty"`
	LinkFindings
}

// LinkFindings are what is out of the ordinary on a link.
type LinkFindings struct {
	// StandIn says that the link takes the place of that to the silent parent.
	StandIn bool `json:"stand_in"`
	// Disputed are chains that fork: both ends go on without them.
	Disputed []string `json:"disputed,omitempty"`
	// Refused counts what the peer sent and this site did not take, by reason.
	Refused map[string]uint64 `json:"refused,omitempty"`
	// PacketBytes is the size of the packets to the peer, as UDP payload; absent when it is
	// not known. Path says in words what is wrong with the network between the two.
	PacketBytes int    `json:"packet_bytes,omitempty"`
	Path        string `json:"path,omitempty"`
}
