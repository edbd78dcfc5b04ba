package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Step is one immutable step of a grant or a replication.
type Step struct {
	At crdt.HybridTime `json:"at"`
	// By is the site that made it.
	By   tiers.SiteID `json:"by"`
	Kind string       `json:"kind"`
	Note string       `json:"note,omitempty"`
	// UntilMS ends a grant, in Unix milliseconds; 0 for no end.
	UntilMS int64 `json:"until_ms,omitempty"`
	// Missing is what an application lacks.
	Missing []string `json:"missing,omitempty"`
	// Overruled says why it has no effect; it is not written, but derived.
	Overruled string `json:"overruled,omitempty"`
}

// The keys of the documents, and bounds.
const (
	keyHead   = "head"
	keySteps  = "steps"
	timeMSMax = 7258118400000 // 2200-01-01
)

func (s Step) op() (crdt.Op, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keySteps, Value: string(b)}, nil
}

func headOps(v any) ([]crdt.Op, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{{Kind: crdt.OpPut, Key: keyHead, Value: string(b)}, {Kind: crdt.OpMakeList, Key: keySteps}}, nil
}

// readHead decodes the immutable part, which author wrote.
func readHead(s *crdt.Source, into any) (author tiers.SiteID, err error) {
	values := s.Document.Root.Field(keyHead)
	if len(values) == 0 {
		if s.Pending > 0 {
			return "", nil
		}
		return "", fmt.Errorf("%w: %s has no head", ErrInvalid, s.Doc)
	}
	text, _ := values[0].Node.Scalar.(string)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return "", fmt.Errorf("%w: head of %s: %w", ErrInvalid, s.Doc, err)
	}
	return s.Authors[values[0].Actor].Site, nil
}

// readSteps returns the steps that are of who wrote them, each once, in an order
// that does not depend on how they came.
func readSteps(s *crdt.Source) (out []Step) {
	seen := map[string]bool{}
	facts, _ := s.Facts(keySteps)
	for _, f := range facts {
		var x Step
		if json.Unmarshal([]byte(f.Text), &x) != nil || f.Author != x.By {
			continue
		}
		x.Overruled = ""
		b, _ := json.Marshal(x) // it came from JSON
		if !seen[string(b)] {
			seen[string(b)] = true
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.UntilMS, b.UntilMS),
			cmp.Compare(a.Note, b.Note), slices.Compare(a.Missing, b.Missing))
	})
	return out
}

func checkText(field, value string, bytesMax int, required bool) error {
	switch {
	case required && tiers.Blank(value):
		return fmt.Errorf("%w: %s is empty", ErrInvalid, field)
	case len(value) > bytesMax:
		return fmt.Errorf("%w: %s is %d bytes long: want at most %d", ErrInvalid, field, len(value), bytesMax)
	case !utf8.ValidString(value) || strings.ContainsAny(value, "\x00\x1f"):
		return fmt.Errorf("%w: %s %.32q: want UTF-8 without control characters", ErrInvalid, field, value)
	}
	return nil
}

func checkUntil(ms, nowMS int64) error {
	if ms != 0 && (ms <= nowMS || ms > timeMSMax) {
		return fmt.Errorf("%w: until_ms %d: want a time from now, %d, to 2200, %d, or 0 for no end", ErrInvalid, ms, nowMS, int64(timeMSMax))
	}
	return nil
}
