package responder

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Sentinels; compare with errors.Is.
var (
	// ErrInvalid reports input that breaks a rule; the text names the field, its
	// value and what is allowed.
	ErrInvalid = errors.New("responder: invalid")
	// ErrFenced reports an epoch that another one took the place of.
	ErrFenced = errors.New("responder: fenced")
	// ErrNow reports what may not be done as things stand, or not yet.
	ErrNow = errors.New("responder: not now")
)

// Epoch says under which grant a unit is sent; a higher one fences all lower
// ones. The zero value is below every grant.
type Epoch struct {
	// Home is the epoch of the home site's grant.
	Home uint64
	// Lent is the epoch of the borrower's grant under a grant to its pool; zero
	// when the home itself sends the unit.
	Lent uint64
}

// Compare orders epochs: the home's part first.
func (e Epoch) Compare(o Epoch) int {
	return cmp.Or(cmp.Compare(e.Home, o.Home), cmp.Compare(e.Lent, o.Lent))
}

// String returns HOME or HOME.LENT.
func (e Epoch) String() string {
	if e.Lent == 0 {
		return strconv.FormatUint(e.Home, 10)
	}
	return strconv.FormatUint(e.Home, 10) + "." + strconv.FormatUint(e.Lent, 10)
}

// ParseEpoch is the inverse of [Epoch.String]. The error wraps [ErrInvalid].
func ParseEpoch(s string) (Epoch, error) {
	home, lent, both := strings.Cut(s, ".")
	e := Epoch{}
	var err error
	if e.Home, err = strconv.ParseUint(home, 10, 64); err == nil && both {
		e.Lent, err = strconv.ParseUint(lent, 10, 64)
	}
	if err != nil || e.String() != s {
		return Epoch{}, fmt.Errorf("%w: epoch %.48q: want a number, or two with a dot between them, as a claim gives them", ErrInvalid, s)
	}
	return e, nil
}

// MarshalText writes [Epoch.String].
func (e Epoch) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (e *Epoch) UnmarshalText(b []byte) (err error) {
	*e, err = ParseEpoch(string(b))
	return err
}

// Order sends a unit somewhere.
type Order struct {
	Epoch Epoch `json:"epoch"`
	// For is what it is sent to, such as a task.
	For string `json:"for"`
	// NotAfterMS is when an order under a lease ends, in Unix milliseconds; zero
	// for never.
	NotAfterMS int64 `json:"not_after_ms,omitempty"`
}

// Terminal is what a unit's terminal keeps. The zero value has obeyed nobody.
type Terminal struct {
	// Obeyed is the order that it follows, of the highest epoch that it has seen.
	Obeyed Order
}

// Obey takes an order or refuses it, with [ErrFenced] when its epoch is below
// one that was seen or was given for something else, and with [ErrNow] when it
// has ended.
func (t *Terminal) Obey(o Order, now time.Time) error {
	switch c := o.Epoch.Compare(t.Obeyed.Epoch); {
	case c < 0:
		return fmt.Errorf("%w: epoch %s is below %s, which was obeyed for %s", ErrFenced, o.Epoch, t.Obeyed.Epoch, t.Obeyed.For)
	case c == 0 && o.For != t.Obeyed.For:
		return fmt.Errorf("%w: epoch %s is that of %s, not of %s", ErrFenced, o.Epoch, t.Obeyed.For, o.For)
	case o.NotAfterMS != 0 && now.UnixMilli() >= o.NotAfterMS:
		return fmt.Errorf("%w: the lease of epoch %s ended at %s", ErrNow, o.Epoch, stamp(o.NotAfterMS))
	}
	t.Obeyed = o
	return nil
}

// Bound is true while the order that the terminal follows has not ended.
func (t *Terminal) Bound(now time.Time) bool {
	o := t.Obeyed
	return o.Epoch != (Epoch{}) && (o.NotAfterMS == 0 || now.UnixMilli() < o.NotAfterMS)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
