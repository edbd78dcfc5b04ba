package responder

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The document kinds of this package; also the names of their indexes.
const (
	Kind         = "responder"
	KindPosition = "position"
	KindRequest  = "unitrequest"
	KindPool     = "pool"
)

// Kinds are the kinds of units.
var Kinds = []string{"team", "person", "vehicle", "radio", "camera", "terminal"}

// The availability of a unit, as it says itself.
const (
	Available    = "available"
	OffDuty      = "off_duty"
	OutOfService = "out_of_service"
)

// Statuses are the values of a unit's availability.
var Statuses = []string{Available, OffDuty, OutOfService}

// Bounds of what is written down, in bytes and numbers.
const (
	codeBytesMax  = 64
	fieldBytesMax = 256
	skillsMax     = 16
)

// Unit is a row of the registry: a responder.
type Unit struct {
	// Code names it at its home site.
	Code string `json:"code"`
	Name string `json:"name"`
	// Kind is one of [Kinds].
	Kind   string   `json:"kind"`
	Skills []string `json:"skills"`
	Organ  string   `json:"organ"`
	// Status is one of [Statuses].
	Status string `json:"status"`
}

// Validate checks a row. The error wraps [ErrInvalid].
func (u Unit) Validate() error {
	if err := checkCode(u.Code); err != nil {
		return err
	}
	if !slices.Contains(Kinds, u.Kind) {
		return fmt.Errorf("%w: kind %.32q: want one of %v", ErrInvalid, u.Kind, Kinds)
	}
	if len(u.Skills) > skillsMax {
		return fmt.Errorf("%w: %d skills: want at most %d", ErrInvalid, len(u.Skills), skillsMax)
	}
	for _, s := range u.Skills {
		if err := checkText("skill", s, 64, true); err != nil {
			return err
		}
		if strings.Contains(s, ",") {
			return fmt.Errorf("%w: skill %q holds a comma", ErrInvalid, s)
		}
	}
	for _, f := range [][2]string{{"name", u.Name}, {"organ", u.Organ}} {
		if err := checkText(f[0], f[1], fieldBytesMax, true); err != nil {
			return err
		}
	}
	return checkStatus(u.Status)
}

func checkStatus(s string) error {
	if !slices.Contains(Statuses, s) {
		return fmt.Errorf("%w: status %.32q: want one of %v", ErrInvalid, s, Statuses)
	}
	return nil
}

func checkCode(code string) error {
	if err := tiers.NewDocID(Kind, code).Validate(); err != nil || len(code) > codeBytesMax {
		return fmt.Errorf("%w: unit %.64q: want 1 to %d letters, digits, '-', '_' or '.'", ErrInvalid, code, codeBytesMax)
	}
	return nil
}

func checkText(name, value string, bytesMax int, required bool) error {
	switch {
	case required && tiers.Blank(value):
		return fmt.Errorf("%w: %s is empty", ErrInvalid, name)
	case len(value) > bytesMax:
		return fmt.Errorf("%w: %s is %d bytes long: want at most %d", ErrInvalid, name, len(value), bytesMax)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return fmt.Errorf("%w: %s %.32q: want UTF-8 without zero bytes", ErrInvalid, name, value)
	}
	return nil
}

// CheckHolder checks what a unit is claimed for. The error wraps [ErrInvalid].
func CheckHolder(holder string) error {
	if err := checkText("holder", holder, 128, true); err != nil {
		return err
	}
	for _, p := range []string{HolderPool, HolderRequest, HolderReturned} {
		if strings.HasPrefix(holder, p) {
			return fmt.Errorf("%w: holder %q: %q is for what this site does by itself", ErrInvalid, holder, p)
		}
	}
	return nil
}

// The prefixes of holders that are no task: a pool, a request, and what stands
// in the place of a holder when a borrowed unit was handed back.
const (
	HolderPool     = KindPool + ":"
	HolderRequest  = KindRequest + ":"
	HolderReturned = "returned:"
)

// Resource is the name under which the home site's Raft grants a unit.
func Resource(code string) string { return Kind + "/" + code }

// The keys of the documents.
const (
	keyLog     = "log"
	keyRequest = "request"
	keyPool    = "pool"
	keyEntries = "entries"
)

// CreateOps returns the operations that register a unit. The error wraps
// [ErrInvalid].
func CreateOps(u Unit) ([]crdt.Op, error) {
	if err := u.Validate(); err != nil {
		return nil, err
	}
	ops := crdt.FieldOps(
		[2]string{"code", u.Code}, [2]string{"name", u.Name}, [2]string{"kind", u.Kind},
		[2]string{"skills", strings.Join(u.Skills, ",")}, [2]string{"organ", u.Organ}, [2]string{"status", u.Status},
	)
	return append(ops, crdt.Op{Kind: crdt.OpMakeList, Key: keyLog}), nil
}

// StatusOp returns the operation that sets a unit's availability. The error
// wraps [ErrInvalid].
func StatusOp(status string) (crdt.Op, error) {
	return crdt.Op{Kind: crdt.OpPut, Key: "status", Value: status}, checkStatus(status)
}

// Forced is an entry of a unit's log: it was taken from its holder.
type Forced struct {
	At     crdt.HybridTime `json:"at"`
	By     tiers.SiteID    `json:"by"`
	From   string          `json:"from"`
	Lost   Epoch           `json:"lost_epoch"`
	To     string          `json:"to"`
	Epoch  Epoch           `json:"epoch"`
	Reason string          `json:"reason"`
}

// ForcedOp returns the operation that writes down what was taken by force. The
// error wraps [ErrInvalid].
func ForcedOp(f Forced) (crdt.Op, error) {
	b, err := json.Marshal(f)
	if err == nil {
		err = CheckReason(f.Reason)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keyLog, Value: string(b)}, err
}

// CheckReason checks why something is done. The error wraps [ErrInvalid].
func CheckReason(reason string) error { return checkText("reason", reason, 512, true) }

// UnitView is what people see of a unit, but for its place and who holds it.
type UnitView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Unit
	// Log is what was taken by force, the earliest first.
	Log       []Forced        `json:"log,omitempty"`
	Conflicts []crdt.Conflict `json:"conflicts,omitempty"`
	Pending   int             `json:"pending,omitempty"`
	Refused   int             `json:"refused,omitempty"`
}

// Fold derives a unit's view.
func Fold(s *crdt.Source) (crdt.View, error) {
	root := s.Document.Root
	v := UnitView{
		ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Conflicts: s.Conflicts(), Pending: s.Pending, Refused: s.Refused,
		Unit: Unit{
			Code: s.Doc.Name(), Name: root.String("name"), Kind: root.String("kind"), Organ: root.String("organ"),
			Status: root.String("status"), Skills: []string{},
		},
	}
	if text := root.String("skills"); text != "" {
		v.Skills = strings.Split(text, ",")
	}
	facts, _ := s.Facts(keyLog)
	for _, e := range facts {
		var f Forced
		if json.Unmarshal([]byte(e.Text), &f) == nil {
			v.Log = append(v.Log, f)
		}
	}
	return made(s, v, crdt.IndexEntry{Name: Kind, Value: s.Doc.Name()})
}

// Position is where a unit is.
type Position struct {
	// Lat and Lon are WGS 84 degrees.
	Lat  float64 `json:"lat"`
	Lon  float64 `json:"lon"`
	AtMS int64   `json:"at_ms"`
}

// PositionOps returns the operations that write a unit's place. The error wraps
// [ErrInvalid].
func PositionOps(p Position) ([]crdt.Op, error) {
	// The negated form also refuses NaN.
	if !(p.Lat >= -90 && p.Lat <= 90) || !(p.Lon >= -180 && p.Lon <= 180) {
		return nil, fmt.Errorf("%w: lat %v, lon %v: want -90 to 90 and -180 to 180", ErrInvalid, p.Lat, p.Lon)
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 6, 64) }
	return crdt.FieldOps([2]string{"lat", number(p.Lat)}, [2]string{"lon", number(p.Lon)}, [2]string{"at_ms", strconv.FormatInt(p.AtMS, 10)}), nil
}

// PositionView is what people see of a unit's place.
type PositionView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Position
	Pending int `json:"pending,omitempty"`
	Refused int `json:"refused,omitempty"`
}

// FoldPosition derives the view of a unit's place.
func FoldPosition(s *crdt.Source) (crdt.View, error) {
	v := PositionView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Pending: s.Pending, Refused: s.Refused}
	var err1, err2, err3 error
	v.Lat, err1 = strconv.ParseFloat(s.Document.Root.String("lat"), 64)
	v.Lon, err2 = strconv.ParseFloat(s.Document.Root.String("lon"), 64)
	v.AtMS, err3 = strconv.ParseInt(s.Document.Root.String("at_ms"), 10, 64)
	if err := first(err1, err2, err3); err != nil && s.Pending == 0 {
		return crdt.View{}, fmt.Errorf("%w: %s: %w", ErrInvalid, s.Doc, err)
	}
	return made(s, v, crdt.IndexEntry{Name: KindPosition, Value: s.Doc.Name()})
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
