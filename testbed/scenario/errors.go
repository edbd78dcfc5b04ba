package scenario

import (
	"errors"
	"fmt"
)

// ErrScript is wrapped by every error about a script.
var ErrScript = errors.New("scenario: not a valid script")

// Error is what is wrong with one line of a script, and what would be valid.
type Error struct {
	File string
	// Line is the line's number, from 1; zero for the script as a whole.
	Line int
	Msg  string
}

// Error names file and line first, as compilers do.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}

// Is makes errors.Is(err, ErrScript) true.
func (e *Error) Is(target error) bool { return target == ErrScript }
