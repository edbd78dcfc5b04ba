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
	"github.com/tiermesh/tiermesh/testbed/corpus"
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
	if got := corpus.Apart(raw).Together(); !bytes.Equal(got, raw) {
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
	set := func(spec uint64, data ...byte) func(*corpus.Parts) {
		return func(p *corpus.Parts) { p.Column(spec).Data = data }
	}
	drop := func(spec uint64) func(*corpus.Parts) {
		return func(p *corpus.Parts) {
			p.Columns = slices.DeleteFunc(p.Columns, func(c corpus.Column) bool { return c.Spec == spec })
		}
	}
	bomb := corpus.SLEB(nil, 1<<40) // a run of 2^40 rows in six bytes
	for name, row := range map[string]struct {
		damage func(*corpus.Parts)
		want   error
	}{
		"checksum":               {func(p *corpus.Parts) { p.DamageChecksum = true }, change.ErrMalformed},
		"document chunk":         {func(p *corpus.Parts) { p.Kind = 0 }, change.ErrRefused},
		"deflated chunk":         {func(p *corpus.Parts) { p.Kind = 2 }, change.ErrRefused},
		"chunk too short":        {func(p *corpus.Parts) { p.Length = 1 }, change.ErrMalformed},
		"chunk too long":         {func(p *corpus.Parts) { p.Length = math.MaxUint64 }, change.ErrMalformed},
		"bytes after":            {func(p *corpus.Parts) { p.Tail = []byte{0} }, change.ErrRefused},
		"short actor":            {func(p *corpus.Parts) { p.Actor = p.Actor[:15] }, change.ErrRefused},
		"seq 0":                  {func(p *corpus.Parts) { p.Seq = 0 }, change.ErrMalformed},
		"seq past int64":         {func(p *corpus.Parts) { p.Seq = 1 << 63 }, change.ErrMalformed},
		"start op 0":             {func(p *corpus.Parts) { p.StartOp = 0 }, change.ErrMalformed},
		"start op past uint32":   {func(p *corpus.Parts) { p.StartOp = math.MaxUint32 }, change.ErrMalformed},
		"message not UTF-8":      {func(p *corpus.Parts) { p.Message = []byte{0xff} }, change.ErrMalformed},
		"deps not ascending":     {func(p *corpus.Parts) { p.Deps = [][]byte{make([]byte, 32), make([]byte, 32)} }, change.ErrMalformed},
		"too many deps":          {func(p *corpus.Parts) { p.Deps = make([][]byte, 1025) }, change.ErrTooLarge},
		"own actor among others": {func(p *corpus.Parts) { p.Others = [][]byte{p.Actor} }, change.ErrMalformed},
		"others not ascending":   {func(p *corpus.Parts) { p.Others = [][]byte{carol[:], carol[:]} }, change.ErrMalformed},
		"unknown column":         {func(p *corpus.Parts) { p.Columns = append(p.Columns, corpus.Column{Spec: 0x81, Data: []byte{1}}) }, change.ErrRefused},
		"columns not ascending":  {func(p *corpus.Parts) { slices.Reverse(p.Columns) }, change.ErrMalformed},
		"empty column":           {set(colAction), change.ErrMalformed},
		"no actions":             {drop(colAction), change.ErrMalformed},
		"too few rows":           {set(colAction, 0x0b, 1), change.ErrTooLarge},
		"unknown action":         {set(colAction, append(corpus.SLEB(nil, 12), 9)...), change.ErrRefused},
		"run-length bomb":        {set(colAction, append(bomb, 1)...), change.ErrTooLarge},
		"null bomb":              {set(colObjCtr, append([]byte{0}, corpus.ULEB(nil, 1<<40)...)...), change.ErrTooLarge},
		"boolean bomb":           {set(colInsert, corpus.ULEB(nil, 1<<40)...), change.ErrMalformed},
		"predecessor bomb":       {set(colPredGroup, append(corpus.SLEB(nil, 12), corpus.ULEB(nil, 1<<30)...)...), change.ErrTooLarge},
		"lists as runs of one":   {set(colValMeta, bytes.Repeat([]byte{1, 6}, 12)...), change.ErrMalformed},
		"object of the future":   {set(colObjCtr, append(corpus.SLEB(nil, 12), 99)...), change.ErrMalformed},
		"key not UTF-8":          {func(p *corpus.Parts) { c := p.Column(colKeyStr); c.Data[len(c.Data)-1] = 0xff }, change.ErrMalformed},
		"no keys":                {drop(colKeyStr), change.ErrMalformed},
		"no elements":            {drop(colKeyCtr), change.ErrMalformed},
		"nothing inserted":       {drop(colInsert), change.ErrMalformed},
		"values left over":       {func(p *corpus.Parts) { c := p.Column(colValRaw); c.Data = append(c.Data, 1) }, change.ErrMalformed},
		"values cut short":       {func(p *corpus.Parts) { c := p.Column(colValRaw); c.Data = c.Data[:3] }, change.ErrMalformed},
		"no values":              {drop(colValRaw), change.ErrMalformed},
		"value of type 15":       {set(colValMeta, append(corpus.SLEB(nil, 12), 15)...), change.ErrMalformed},
		"preds without columns":  {drop(colPredCtr), change.ErrMalformed},
		"pred of the future":     {set(colPredCtr, append([]byte{0x7f}, corpus.SLEB(nil, 99)...)...), change.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			p := corpus.Apart(honest)
			row.damage(&p)
			if c, err := change.Decode(p.Together(), change.DefaultLimits()); !errors.Is(err, row.want) {
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

// TestObjectOfAnotherKind: an element edit of a map, and a key edit of a list,
// kill the library; in one change the decoder refuses them, across changes the
// check of the document does. The fuzzer found the first as a run of two equal
// object counters.
func TestObjectOfAnotherKind(t *testing.T) {
	p := corpus.Apart(eventChange(t))
	p.Column(colObjCtr).Data = append([]byte{0, 3}, corpus.SLEB(corpus.SLEB(corpus.SLEB(nil, 3), 3), -7)...)
	p.Column(colObjCtr).Data = bytes.Clone(p.Column(colObjCtr).Data[:4])
	if _, err := change.Decode(p.Together(), change.DefaultLimits()); !errors.Is(err, change.ErrMalformed) {
		t.Errorf("one change: %v", err)
	}
	first := eventChange(t)
	decode := func(raw []byte) *change.Change {
		t.Helper()
		c, err := change.Decode(raw, change.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	base := decode(first)
	if len(base.Made) != 2 || !base.Made[0].List || base.Made[1].List {
		t.Fatalf("made %+v", base.Made)
	}
	honest := decode(build(t, [][]byte{first}, bob, crdt.Op{Kind: crdt.OpAppend, In: "actions", Value: "z"}, crdt.Op{Kind: crdt.OpPut, In: "corrections", Key: "k", Value: "y"}))
	for name, row := range map[string]struct {
		damage func(c *change.Change)
		ok     bool
	}{
		"honest":                            {func(*change.Change) {}, true},
		"a list for a map":                  {func(c *change.Change) { c.Uses[1].List = true }, false},
		"a map for a list":                  {func(c *change.Change) { c.Uses[0].List = false }, false},
		"an object of nobody":               {func(c *change.Change) { c.Uses[0].Counter = 1 }, false},
		"an object that it does not follow": {func(c *change.Change) { c.Deps = nil }, false},
	} {
		c := *honest
		c.Uses = slices.Clone(honest.Uses)
		row.damage(&c)
		if err := change.CheckObjects([]*change.Change{base, &c}); (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
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
