package event

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tiermesh/tiermesh/tiers/strictjson"
)

// extraBytesMax bounds an [Extra].
const extraBytesMax = 16 << 10

// Extra is a JSON object, without white space between its parts, of what a source says
// of an event and no field of a report is for. Empty is none.
type Extra string

// MarshalJSON implements [json.Marshaler].
func (e Extra) MarshalJSON() ([]byte, error) {
	if e == "" {
		return []byte("null"), nil
	}
	return []byte(e), nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (e *Extra) UnmarshalJSON(raw []byte) error {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return err
	}
	if *e = ""; b.String() == "null" || b.String() == "{}" {
		return nil
	}
	if b.Bytes()[0] != '{' {
		return fmt.Errorf("extra %.40q: want an object", raw)
	}
	*e = Extra(b.String())
	return nil
}

// check reports what is wrong with it. The error wraps [ErrInvalid].
func (e Extra) check() error {
	if e == "" {
		return nil
	}
	if len(e) > extraBytesMax {
		return invalid("extra", "extra is %d bytes long: want at most %d", len(e), extraBytesMax)
	}
	if _, err := strictjson.Fields([]byte(e)); err != nil {
		return invalid("extra", "extra: %v", err)
	}
	return nil
}
