package change_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
)

func TestDecodeReadsAll(t *testing.T) {
	first := eventChange(t)
	second := build(t, [][]byte{first}, bob, crdt.Op{Kind: crdt.OpPut, Key: "report", Value: "y"})
	a, err := change.Decode(first, change.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(first[8:])
	if a.Hash != crdt.Hash(sum) || a.Actor != alice || a.Seq != 1 || a.StartOp != 1 || a.Ops != 12 || a.TimeMS != 1_700_000_000_000 || len(a.Deps) != 0 {
		t.Errorf("first: %+v", a)
	}
	b, err := change.Decode(second, change.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if b.Actor != bob || b.Seq != 1 || b.StartOp != 13 || b.Ops != 1 || !slices.Equal(b.Deps, []crdt.Hash{a.Hash}) {
		t.Errorf("second: %+v", b)
	}
	if got := b.Info(); got.MaxOp != 13 || got.Hash != b.Hash {
		t.Errorf("info: %+v", got)
	}
}

// TestPartsAreFaithful: what the tests damage is, undamaged, the same bytes.
func TestPartsAreFaithful(t *testing.T) {
	raw := eventChange(t)
	if got := apart(raw).together(); !bytes.Equal(got, raw) {
		t.Fatalf("%x became %x", raw, got)
	}
}

const (
	colObjCtr    = 0x02
	colKeyCtr    = 0x13
	colKeyStr    = 0x15
	colInsert    = 0x34
	colAction    = 0x42
	colValMeta   = 0x56
	colValRaw    = 0x57
	colPredGroup = 0x70
	colPredCtr   = 0x73
)

func TestDecodeRefusals(t *testing.T) {
	honest := eventChange(t)
	set := func(spec uint64, data ...byte) func(*parts) {
		return func(p *parts) { p.column(spec).data = data }
	}
	drop := func(spec uint64) func(*parts) {
		return func(p *parts) {
			p.columns = slices.DeleteFunc(p.columns, func(c column) bool { return c.spec == spec })
		}
	}
	bomb := sleb(nil, 1<<40) // a run of 2^40 rows in six bytes
	for name, row := range map[string]struct {
		damage func(*parts)
		want   error
	}{
		"checksum":               {func(p *parts) { p.damageChecksum = true }, change.ErrMalformed},
		"document chunk":         {func(p *parts) { p.kind = 0 }, change.ErrRefused},
		"deflated chunk":         {func(p *parts) { p.kind = 2 }, change.ErrRefused},
		"chunk too short":        {func(p *parts) { p.length = 1 }, change.ErrMalformed},
		"chunk too long":         {func(p *parts) { p.length = math.MaxUint64 }, change.ErrMalformed},
		"bytes after":            {func(p *parts) { p.tail = []byte{0} }, change.ErrRefused},
		"short actor":            {func(p *parts) { p.actor = p.actor[:15] }, change.ErrRefused},
		"seq 0":                  {func(p *parts) { p.seq = 0 }, change.ErrMalformed},
		"seq past int64":         {func(p *parts) { p.seq = 1 << 63 }, change.ErrMalformed},
		"start op 0":             {func(p *parts) { p.startOp = 0 }, change.ErrMalformed},
		"start op past uint32":   {func(p *parts) { p.startOp = math.MaxUint32 }, change.ErrMalformed},
		"message not UTF-8":      {func(p *parts) { p.message = []byte{0xff} }, change.ErrMalformed},
		"deps not ascending":     {func(p *parts) { p.deps = [][]byte{make([]byte, 32), make([]byte, 32)} }, change.ErrMalformed},
		"too many deps":          {func(p *parts) { p.deps = make([][]byte, 1025) }, change.ErrTooLarge},
		"own actor among others": {func(p *parts) { p.others = [][]byte{p.actor} }, change.ErrMalformed},
		"others not ascending":   {func(p *parts) { p.others = [][]byte{carol[:], carol[:]} }, change.ErrMalformed},
		"unknown column":         {func(p *parts) { p.columns = append(p.columns, column{0x81, []byte{1}}) }, change.ErrRefused},
		"columns not ascending":  {func(p *parts) { slices.Reverse(p.columns) }, change.ErrMalformed},
		"empty column":           {set(colAction), change.ErrMalformed},
		"no actions":             {drop(colAction), change.ErrMalformed},
		"too few rows":           {set(colAction, 0x0b, 1), change.ErrTooLarge},
		"unknown action":         {set(colAction, append(sleb(nil, 12), 9)...), change.ErrRefused},
		"run-length bomb":        {set(colAction, append(bomb, 1)...), change.ErrTooLarge},
		"null bomb":              {set(colObjCtr, append([]byte{0}, uleb(nil, 1<<40)...)...), change.ErrTooLarge},
		"boolean bomb":           {set(colInsert, uleb(nil, 1<<40)...), change.ErrMalformed},
		"predecessor bomb":       {set(colPredGroup, append(sleb(nil, 12), uleb(nil, 1<<30)...)...), change.ErrTooLarge},
		"lists as runs of one":   {set(colValMeta, bytes.Repeat([]byte{1, 6}, 12)...), change.ErrMalformed},
		"object of the future":   {set(colObjCtr, append(sleb(nil, 12), 99)...), change.ErrMalformed},
		"key not UTF-8":          {func(p *parts) { c := p.column(colKeyStr); c.data[len(c.data)-1] = 0xff }, change.ErrMalformed},
		"no keys":                {drop(colKeyStr), change.ErrMalformed},
		"no elements":            {drop(colKeyCtr), change.ErrMalformed},
		"nothing inserted":       {drop(colInsert), change.ErrMalformed},
		"values left over":       {func(p *parts) { c := p.column(colValRaw); c.data = append(c.data, 1) }, change.ErrMalformed},
		"values cut short":       {func(p *parts) { c := p.column(colValRaw); c.data = c.data[:3] }, change.ErrMalformed},
		"no values":              {drop(colValRaw), change.ErrMalformed},
		"value of type 15":       {set(colValMeta, append(sleb(nil, 12), 15)...), change.ErrMalformed},
		"preds without columns":  {drop(colPredCtr), change.ErrMalformed},
		"pred of the future":     {set(colPredCtr, append([]byte{0x7f}, sleb(nil, 99)...)...), change.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			p := apart(honest)
			row.damage(&p)
			if c, err := change.Decode(p.together(), change.DefaultLimits()); !errors.Is(err, row.want) {
				t.Errorf("%v, %v; want %v", c, err, row.want)
			}
		})
	}
	for n := range honest {
		if _, err := change.Decode(honest[:n], change.DefaultLimits()); err == nil {
			t.Errorf("the first %d of %d bytes pass", n, len(honest))
		}
	}
}

func TestLimits(t *testing.T) {
	honest := eventChange(t)
	for name, lim := range map[string]change.Limits{
		"bytes": {BytesMax: len(honest) - 1, OpsMax: 100, DepsMax: 1, ActorsMax: 1},
		"ops":   {BytesMax: 1 << 20, OpsMax: 11, DepsMax: 1, ActorsMax: 1},
	} {
		if _, err := change.Decode(honest, lim); !errors.Is(err, change.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := change.Decode(honest, change.Limits{BytesMax: len(honest), OpsMax: 12}); err != nil {
		t.Errorf("at the limits: %v", err)
	}
}

// history is the state that Fit judges against, kept naively.
type history struct {
	maxOps map[crdt.Hash]uint64
	actors map[crdt.Actor][2]uint64
}

func newHistory() *history {
	return &history{map[crdt.Hash]uint64{}, map[crdt.Actor][2]uint64{}}
}

func (h *history) MaxOp(x crdt.Hash) (uint64, bool) { m, ok := h.maxOps[x]; return m, ok }

func (h *history) Actor(a crdt.Actor) (seq, maxOp uint64) { return h.actors[a][0], h.actors[a][1] }

func (h *history) apply(c *change.Change) {
	i := c.Info()
	h.maxOps[i.Hash] = i.MaxOp
	h.actors[i.Actor] = [2]uint64{i.Seq, i.MaxOp}
}

func TestFit(t *testing.T) {
	h := newHistory()
	dep := crdt.Hash{1}
	h.maxOps[dep] = 7
	h.actors[alice] = [2]uint64{3, 5}
	good := change.Change{Actor: alice, Seq: 4, StartOp: 8, Ops: 1, Deps: []crdt.Hash{dep}}
	for name, row := range map[string]struct {
		damage func(*change.Change)
		want   error
	}{
		"fits":                {func(*change.Change) {}, nil},
		"unknown dependency":  {func(c *change.Change) { c.Deps = []crdt.Hash{{2}} }, change.ErrMissingDeps},
		"gap in the actor":    {func(c *change.Change) { c.Seq = 5 }, change.ErrMissingDeps},
		"sequence seen":       {func(c *change.Change) { c.Seq = 3 }, change.ErrMisfit},
		"starts too high":     {func(c *change.Change) { c.StartOp = 9 }, change.ErrMisfit},
		"starts too low":      {func(c *change.Change) { c.StartOp = 7 }, change.ErrMisfit},
		"behind its own ops":  {func(c *change.Change) { c.Deps, c.StartOp = nil, 1 }, change.ErrMisfit},
		"first of a stranger": {func(c *change.Change) { c.Actor, c.Seq = bob, 1 }, nil},
		"stranger's second":   {func(c *change.Change) { c.Actor, c.Seq = bob, 2 }, change.ErrMissingDeps},
	} {
		c := good
		row.damage(&c)
		if err := change.Fit(&c, h); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}
