package track

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrInvalid reports an entry, edit or proposal that breaks a rule; the text
	// names the field and what is allowed.
	ErrInvalid = errors.New("track: invalid")
	// ErrNotNow reports something that may not be done as things stand, or not by
	// that site; the text says why.
	ErrNotNow = errors.New("track: not allowed now")
)

// Kind is the document kind of tracks and the name of their index.
const Kind = "track"

// Bounds in bytes of a field's value, a code and a person's name.
const (
	fieldBytesMax = 4096
	codeBytesMax  = 64
	whoBytesMax   = 128
)

// The fields of a track that may be set after it was added, besides the state.
const (
	FieldName        = "name"
	FieldOwner       = "owner"
	FieldTarget      = "target"
	FieldDescription = "description"
	FieldDeadline    = "deadline_days"
	FieldState       = "state"
)

// The states of a track. One without a state is active.
const (
	StateActive  = "active"
	StateRetired = "retired"
)

// Track is a business line under a board.
type Track struct {
	Code  string `json:"code"`
	Board string `json:"board"`
	Name  string `json:"name"`
	// Owner is the organ that leads; Target what it is held to.
	Owner       string `json:"owner,omitempty"`
	Target      string `json:"target,omitempty"`
	Description string `json:"description,omitempty"`
	// Parent is the code of the track that this one is a sub-track of; empty for a
	// track. A sub-track has no sub-tracks.
	Parent string `json:"parent,omitempty"`
	// Origin is the code of the track that this one adopted, if any, and OriginSite
	// the site in whose catalog that stands.
	Origin     string       `json:"origin,omitempty"`
	OriginSite tiers.SiteID `json:"origin_site,omitempty"`
	// Proposal is the approved proposal that added it, if any.
	Proposal tiers.DocID `json:"proposal,omitempty"`
	// DeadlineDays is the default time limit of its tasks; 0 for none.
	DeadlineDays int `json:"deadline_days,omitempty"`
}

// Ops returns the operations that write a track. The error wraps [ErrInvalid].
func Ops(t Track) ([]crdt.Op, error) {
	if t.Board == "" || tiers.Blank(t.Name) {
		return nil, fmt.Errorf("%w: board %q and name %q of track %.64q must be given", ErrInvalid, t.Board, t.Name, t.Code)
	}
	if err := checkCode("code", Kind, t.Code); err != nil {
		return nil, err
	}
	if err := checkCode("board", KindBoard, t.Board); err != nil {
		return nil, err
	}
	if t.Parent != "" {
		if err := checkCode("parent", Kind, t.Parent); err != nil {
			return nil, err
		}
	}
	if t.Parent == t.Code {
		return nil, fmt.Errorf("%w: parent %q: a track is not its own sub-track", ErrInvalid, t.Parent)
	}
	fields := [][2]string{
		{"code", t.Code}, {"board", t.Board}, {FieldName, t.Name}, {FieldOwner, t.Owner},
		{FieldTarget, t.Target}, {FieldDescription, t.Description}, {"parent", t.Parent},
		{"origin", t.Origin}, {"origin_site", string(t.OriginSite)}, {"proposal", string(t.Proposal)},
	}
	if t.DeadlineDays != 0 {
		fields = append(fields, [2]string{FieldDeadline, strconv.Itoa(t.DeadlineDays)})
	}
	for _, f := range fields {
		if err := check(f[0], f[1]); err != nil {
			return nil, err
		}
	}
	return crdt.FieldOps(fields...), nil
}

// editable are the fields that an edit may set.
var editable = []string{FieldDeadline, FieldDescription, FieldName, FieldOwner, FieldState, FieldTarget}

// EditOps returns the operations that set fields of a track, in field order.
// The error wraps [ErrInvalid].
func EditOps(fields map[string]string) ([]crdt.Op, error) {
	if len(fields) == 0 {
		return nil, fmt.Errorf("%w: no field to set: want some of %v", ErrInvalid, editable)
	}
	var ops []crdt.Op
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(editable, name) {
			return nil, fmt.Errorf("%w: field %.64q cannot be set: want one of %v", ErrInvalid, name, editable)
		}
		if err := check(name, fields[name]); err != nil {
			return nil, err
		}
		ops = append(ops, crdt.Op{Kind: crdt.OpPut, Key: name, Value: fields[name]})
	}
	return ops, nil
}

// checkCode checks a code, which is also the name of the document of a kind.
func checkCode(field, kind, code string) error {
	if err := tiers.NewDocID(kind, code).Validate(); err != nil || len(code) > codeBytesMax {
		return fmt.Errorf("%w: %s %.96q: want 1 to %d letters, digits, '-', '_' or '.'", ErrInvalid, field, code, codeBytesMax)
	}
	return nil
}

func check(name, value string) error {
	if err := checkText(name, value, fieldBytesMax); err != nil {
		return err
	}
	switch name {
	case FieldName:
		if tiers.Blank(value) {
			return fmt.Errorf("%w: name is empty", ErrInvalid)
		}
	case FieldDeadline:
		if days, err := strconv.Atoi(value); err != nil || days < 0 || days > 3650 {
			return fmt.Errorf("%w: deadline_days %.64q: want 0 to 3650", ErrInvalid, value)
		}
	case FieldState:
		if value != StateActive && value != StateRetired {
			return fmt.Errorf("%w: state %.64q: want %s or %s", ErrInvalid, value, StateActive, StateRetired)
		}
	}
	return nil
}

func checkText(name, value string, bytesMax int) error {
	switch {
	case len(value) > bytesMax:
		return fmt.Errorf("%w: %s is %d bytes long: want at most %d", ErrInvalid, name, len(value), bytesMax)
	case !utf8.ValidString(value):
		return fmt.Errorf("%w: %s is not UTF-8: %.32q", ErrInvalid, name, value)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("%w: %s holds a zero byte", ErrInvalid, name)
	}
	return nil
}
