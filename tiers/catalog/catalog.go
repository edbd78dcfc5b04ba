package catalog

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// ErrInvalid reports an entry that breaks a rule.
var ErrInvalid = errors.New("catalog: invalid")

// ErrNow reports what may not be done as things stand; the text says why.
var ErrNow = errors.New("catalog: not allowed now")

// The document kinds of this package; also the names of their indexes.
const (
	KindEventType = "type"
)

// EventType (事件类型) is a kind of event.
type EventType struct{ Code, Category, Name string }

// EventTypeOps returns the operations that write an event type.
func EventTypeOps(t EventType) ([]crdt.Op, error) {
	return entryOps(t.Code, [2]string{"category", t.Category}, [2]string{"name", t.Name})
}

func entryOps(code string, fields ...[2]string) ([]crdt.Op, error) {
	for _, f := range append(fields, [2]string{"code", code}) {
		if tiers.Blank(f[1]) || len(f[1]) > 512 {
			return nil, fmt.Errorf("%w: %s of %q: want 1 to 512 bytes", ErrInvalid, f[0], code)
		}
	}
	return crdt.FieldOps(append([][2]string{{"code", code}}, fields...)...), nil
}

// Fold derives an entry's view.
func Fold(s *crdt.Source) (crdt.View, error) { return s.FieldView() }

// EventTypeFromView reads an event type back from its view. The error wraps
// [ErrInvalid].
func EventTypeFromView(b []byte) (EventType, error) {
	var v struct {
		Fields struct{ Code, Category, Name string } `json:"fields"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return EventType{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return EventType(v.Fields), nil
}
