package dispatch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Brief is what the organ needs to know; it never changes.
type Brief struct {
	Event          tiers.DocID `json:"event"`
	Stream         string      `json:"stream"`
	Title          string      `json:"title"`
	Type           string      `json:"type"`
	Place          string      `json:"place,omitempty"`
	Organ          string      `json:"organ"`
	Limit          Limit       `json:"limit"`
	Priority       int         `json:"priority"`
	DispatchedAtMS int64       `json:"dispatched_at_ms"`
	Rule           string      `json:"rule"`
	// Plan is the response plan's code; Unit is the responder that was claimed
	// for the task when it was dispatched, as home/code, and UnitEpoch the epoch.
	Plan      string `json:"plan,omitempty"`
	Unit      string `json:"unit,omitempty"`
	UnitEpoch string `json:"unit_epoch,omitempty"`
	BriefOrigin
}

// BriefOrigin is where a task comes from and how its time is counted.
type BriefOrigin struct {
	// By is the site that dispatched it; empty for the stream's own.
	By     tiers.SiteID `json:"by,omitempty"`
	ByTier tiers.Tier   `json:"by_tier,omitempty"`
	// Parent is the task that this one was delegated from, and ParentStream where
	// that stands.
	Parent       tiers.DocID `json:"parent,omitempty"`
	ParentStream string      `json:"parent_stream,omitempty"`
	// Step is the plan's step; Role is lead or co.
	Step string `json:"step,omitempty"`
	Role string `json:"role,omitempty"`
	// Mode is emergency when the task was dispatched in that, at ModeLevel; empty is
	// normal. The limit is as it counted then.
	Mode      string `json:"mode,omitempty"`
	ModeLevel int    `json:"mode_level,omitempty"`
	// Calendar is what the limit is counted by, as it was at dispatch; nil for
	// [DefaultCalendar].
	Calendar *Calendar `json:"calendar,omitempty"`
	// Versions name the versions of the catalogs that made it, as SITE/NUMBER, under
	// [UsedRule] and the like; nil in records of earlier versions of this program. A
	// "+" behind one says that the entry was changed after that version.
	Versions map[string]string `json:"versions,omitempty"`
}

// The keys of [BriefOrigin.Versions].
const (
	UsedType     = "type"
	UsedRule     = "rule"
	UsedPlan     = "plan"
	UsedCalendar = "calendar"
)

// TaskID returns the identifier of an event's task: a UUID (RFC 9562, version
// 8) made of the event's name, in full where a client gave it: two events that got one
// name at two sites have two tasks.
func TaskID(event tiers.DocID) tiers.DocID { return taskID("tiermesh task v1", string(event)) }

// PlanTaskID returns the identifier of the task of one step of a response plan.
func PlanTaskID(event tiers.DocID, plan, step string) tiers.DocID {
	return taskID("tiermesh plan task v1", string(event), plan, step)
}

// ChildTaskID returns the identifier of the task that one delegates to a site
// under an idempotency key.
func ChildTaskID(parent tiers.DocID, to tiers.SiteID, key string) tiers.DocID {
	return taskID("tiermesh child task v1", string(parent), string(to), key)
}

// ManualTaskID returns the identifier of a task that somebody dispatches under
// an idempotency key.
func ManualTaskID(event tiers.DocID, key string) tiers.DocID {
	return taskID("tiermesh manual task v1", string(event), key)
}

func taskID(scheme string, parts ...string) tiers.DocID {
	text := scheme
	for _, p := range parts {
		text += "\x00" + p
	}
	sum := sha256.Sum256([]byte(text))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	x := hex.EncodeToString(u)
	return tiers.NewDocID(KindTask, x[:8]+"-"+x[8:12]+"-"+x[12:16]+"-"+x[16:20]+"-"+x[20:])
}

// The keys of a task document.
const (
	keyBrief   = "brief"
	keyActions = "actions"
)

// TaskOps returns the operations of a task's first change.
func TaskOps(b Brief) ([]crdt.Op, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{
		{Kind: crdt.OpPut, Key: keyBrief, Value: string(text)},
		{Kind: crdt.OpMakeList, Key: keyActions},
	}, nil
}
