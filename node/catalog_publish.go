package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// publication is a write of entries to this site's own catalog on its way: the
// rows that are good, and what they become.
type publication struct {
	n       *Node
	c       *catalog.Catalog
	request api.EntriesRequest
	rows    []catalog.Row
	// after is what the entry of each row becomes, set when its operations are made.
	after  []catalog.Fields
	result api.EntriesResult
	// known are the codes that may be referred to since this import brings them.
	known map[string]bool
}

// PutEntries writes entries to this site's own catalog: those that change
// anything, and one new version, in one commit. With problems in any row nothing is
// written, unless bad rows are to be skipped. Neither is anything when nothing
// changes. A key that was used before gives the first write's version. The error
// wraps [store.ErrNotFound] for an unknown catalog, or a write's outcome.
func (n *Node) PutEntries(ctx context.Context, key string, r api.EntriesRequest) (api.EntriesResult, error) {
	out, _, err := n.putEntries(ctx, key, r)
	return out, err
}

func (n *Node) putEntries(ctx context.Context, key string, r api.EntriesRequest) (api.EntriesResult, []replication.Written, error) {
	c, ok := catalog.Find(r.Catalog)
	if !ok {
		return api.EntriesResult{}, nil, fmt.Errorf("%w: catalog %.64q: want one of %s", store.ErrNotFound, r.Catalog, strings.Join(catalog.Names(), ", "))
	}
	done, err := n.catalogs.alone(ctx)
	if err != nil {
		return api.EntriesResult{}, nil, err
	}
	defer done()
	p := &publication{n: n, c: c, request: r, known: map[string]bool{}}
	p.result = api.EntriesResult{Catalog: c.Name, Site: n.creds.ID.Site, Problems: []catalog.Problem{}}
	if earlier, err := n.group.Earlier(key); !r.DryRun && (earlier != nil || err != nil) {
		p.earlier(earlier)
		return p.result, earlier, err
	}
	if p.result.Version, err = n.latestNumber(n.creds.ID.Site, c); err != nil {
		return p.result, nil, err
	}
	if err := p.check(); err != nil || r.DryRun || len(p.result.Problems) > 0 && !r.SkipBad || len(p.rows) == 0 {
		return p.result, nil, err
	}
	written, err := p.write(ctx, key)
	return p.result, written, err
}

// earlier tells of a write that was made before under the same key.
func (p *publication) earlier(done []replication.Written) {
	for _, w := range done {
		if w.Doc.Kind() != catalog.KindVersion {
			p.result.Changed++
			continue
		}
		_, _ = fmt.Sscanf(w.Doc.Name(), p.c.Name+".%d", &p.result.Version)
	}
	p.result.Written, p.result.Repeated = true, true
}

// check keeps the rows that are good and change something, and notes the problems
// of the others.
func (p *publication) check() error {
	for _, code := range p.request.With {
		p.known[code] = true
	}
	for _, r := range p.request.Entries {
		p.known[r.Fields["code"]] = true
	}
	seen := map[string]bool{}
	for _, r := range p.request.Entries {
		code := r.Fields["code"]
		if seen[code] && code != "" {
			p.result.Problems = append(p.result.Problems, catalog.Problem{Row: r.Row, Code: code, Field: "code", Value: code, Want: "each code once"})
			continue
		}
		seen[code] = true
		before, fresh, err := p.before(code)
		if err != nil {
			return err
		}
		after, bad := p.c.Merge(before, r)
		if len(bad) == 0 {
			if bad, err = p.checkUse(r.Row, before, after); err != nil {
				return err
			}
		}
		switch {
		case len(bad) > 0:
			p.result.Problems = append(p.result.Problems, bad...)
		case before != nil && before.Equal(after) && !p.request.Confirm && (!p.request.Resolve || !p.conflicts(code, r)):
			p.result.Unchanged++
		default:
			p.rows = append(p.rows, r)
			if p.result.Changed++; fresh {
				p.result.Changed--
				p.result.Added++
			}
		}
	}
	p.after = make([]catalog.Fields, len(p.rows))
	return nil
}

// before returns what a row is laid over: this site's own entry, or else the one
// from above that holds here; fresh says that there is neither.
func (p *publication) before(code string) (f catalog.Fields, fresh bool, err error) {
	e, ok, err := p.n.holding(p.c, code)
	if err != nil || !ok {
		return nil, true, err
	}
	return e.Fields, false, nil
}

// conflicts reports whether this site's own entry has an unresolved conflict in a
// field that the row gives.
func (p *publication) conflicts(code string, r catalog.Row) bool {
	e, _, err := p.n.entryAt(p.n.creds.ID.Site, p.c, code)
	return err == nil && slices.ContainsFunc(e.Conflicts, func(x crdt.Conflict) bool { _, given := r.Fields[x.Field]; return given })
}

// write writes the good rows and a version.
func (p *publication) write(ctx context.Context, key string) ([]replication.Written, error) {
	self := p.n.creds.ID.Site
	before := p.n.group.Store().Vector(catalogStream(self))
	var edits []Edit
	for i, r := range p.rows {
		edits = append(edits, Edit{
			Key: entryKey(self, p.c, r.Fields["code"]), Make: func() ([]crdt.Op, error) { return p.entryOps(i) },
		})
	}
	for number := p.result.Version + 1; ; number++ {
		v := catalog.Version{Catalog: p.c.Name, Number: number, By: self, Changed: len(p.rows), Note: p.request.Note}
		done, err := p.n.docs.write(ctx, key, append(edits, Edit{
			Key: versionKey(self, p.c, number), Create: true, Make: func() ([]crdt.Op, error) { return p.versionOps(v) },
		})...)
		if errors.Is(err, ErrExists) { // a peer brought back what an old copy of this site wrote
			continue
		}
		if err != nil {
			p.result.Added, p.result.Changed = 0, 0
			return nil, err
		}
		p.result.Version, p.result.Written = number, true
		p.remember(before, done)
		return done, nil
	}
}

// entryOps are the operations of one row, on the entry as it is now. The entry's
// writers are held back.
func (p *publication) entryOps(i int) ([]crdt.Op, error) {
	r := p.rows[i]
	own, there, err := p.n.entryAt(p.n.creds.ID.Site, p.c, r.Fields["code"])
	if err != nil {
		return nil, err
	}
	base := own.Fields
	if !there {
		if base, _, err = p.before(r.Fields["code"]); err != nil {
			return nil, err
		}
	}
	after, bad := p.c.Merge(base, r)
	if len(bad) > 0 {
		return nil, bad[0].Err()
	}
	p.after[i] = after
	ops := catalog.Ops(own.Fields, after)
	for _, name := range p.c.Columns() {
		_, given := r.Fields[name]
		same := own.Fields[name] == after[name] && after[name] != ""
		if p.request.Confirm && there && given && same {
			ops = append(ops, crdt.Confirmed([]crdt.Op{{Kind: crdt.OpPut, Key: name, Value: after[name]}})...)
		}
	}
	for _, x := range own.Conflicts {
		_, given := r.Fields[x.Field]
		if p.request.Resolve && given && !slices.ContainsFunc(ops, func(o crdt.Op) bool { return o.Key == x.Field }) {
			ops = append(ops, crdt.Op{Kind: crdt.OpPut, Key: x.Field, Value: after[x.Field]})
		}
	}
	return ops, nil
}

// versionOps are the operations of the new version, of which v lacks what depends
// on the entries as they are now. It is called behind all [publication.entryOps].
func (p *publication) versionOps(v catalog.Version) ([]crdt.Op, error) {
	author, _, err := p.n.group.Actor()
	if err != nil {
		return nil, err
	}
	st, stream := p.n.group.Store(), catalogStream(p.n.creds.ID.Site)
	for {
		at := st.Vector(stream)
		sums, err := p.n.sumsOf(p.c)
		if err != nil {
			return nil, err
		}
		if !maps.Equal(at, st.Vector(stream)) { // a record from above came meanwhile
			continue
		}
		sums = maps.Clone(sums)
		for _, f := range p.after {
			sums[f["code"]] = f.Sum()
		}
		sum := catalog.Sum(sums)
		v.At, v.Count, v.Sum, v.Others = p.n.group.Clock().Now(), len(sums), fmt.Sprintf("%x", sum[:]), map[string]uint64{}
		for a, h := range at {
			if a != author {
				v.Others[a.String()] = h.Seq
			}
		}
		return catalog.VersionOps(v)
	}
}

// sumsOf returns the sums of all entries of this site's own catalog. The caller
// publishes, and changes nothing in it.
func (n *Node) sumsOf(c *catalog.Catalog) (map[string]crdt.Hash, error) {
	stream := catalogStream(n.creds.ID.Site)
	at := n.group.Store().Vector(stream)
	if s := n.catalogs.sums[c.Name]; s != nil && maps.Equal(s.at, at) {
		return s.entries, nil
	}
	docs, err := n.group.Store().DocumentsOf(stream, c.Kind, "", 0)
	if err != nil {
		return nil, err
	}
	s := &summed{at: at, entries: make(map[string]crdt.Hash, len(docs))}
	for _, k := range docs {
		e, ok, err := n.entryAt(n.creds.ID.Site, c, k.Doc.Name())
		if err != nil {
			return nil, err
		}
		if ok {
			s.entries[e.Code] = e.Fields.Sum()
		}
	}
	n.catalogs.sums[c.Name] = s
	return s.entries, nil
}

// remember keeps the sums, when nothing but this write moved the stream.
func (p *publication) remember(before crdt.Vector, done []replication.Written) {
	s := p.n.catalogs.sums[p.c.Name]
	author, _, err := p.n.group.Actor()
	if s == nil || err != nil || !maps.Equal(s.at, before) || len(done) == 0 {
		return
	}
	now := p.n.group.Store().Vector(catalogStream(p.n.creds.ID.Site))
	first, last := done[0].Seq, done[len(done)-1].Seq
	if before[author].Seq+1 != first || now[author].Seq != last || last-first+1 != uint64(len(done)) {
		delete(p.n.catalogs.sums, p.c.Name)
		return
	}
	for a, h := range now {
		if a != author && before[a] != h {
			delete(p.n.catalogs.sums, p.c.Name)
			return
		}
	}
	for _, f := range p.after {
		s.entries[f["code"]] = f.Sum()
	}
	s.at = now
}

// publishOps publishes entries that a domain has checked and turned into
// operations: the fields that they do not set are emptied.
func (n *Node) publishOps(ctx context.Context, key, name string, entries ...[]crdt.Op) (api.EntriesResult, []replication.Written, error) {
	return n.publishRows(ctx, key, api.EntriesRequest{Catalog: name}, entries...)
}

// publishRows is publishOps with further wishes; a problem is an error.
func (n *Node) publishRows(ctx context.Context, key string, r api.EntriesRequest, entries ...[]crdt.Op) (api.EntriesResult, []replication.Written, error) {
	c, _ := catalog.Find(r.Catalog)
	for i, ops := range entries {
		row := catalog.Row{Row: i + 1, Fields: catalog.Fields{}}
		for _, column := range c.Columns() {
			row.Fields[column] = ""
		}
		for _, op := range ops {
			if s, ok := op.Value.(string); ok {
				row.Fields[op.Key] = s
			}
		}
		r.Entries = append(r.Entries, row)
	}
	out, done, err := n.putEntries(ctx, key, r)
	if err == nil && len(out.Problems) > 0 {
		err = fmt.Errorf("%s: %w", out.Problems[0].Code, out.Problems[0].Err())
	}
	return out, done, err
}

// Retire retires an entry of this site's own catalog, or of one above for this site
// and those below it; it goes on being shown. The error wraps [store.ErrNotFound].
func (n *Node) Retire(ctx context.Context, key, name, code string) (api.EntriesResult, error) {
	c, ok := catalog.Find(name)
	if !ok {
		return api.EntriesResult{}, fmt.Errorf("%w: catalog %.64q: want one of %s", store.ErrNotFound, name, strings.Join(catalog.Names(), ", "))
	}
	_, ok, err := n.holding(c, code)
	if err != nil {
		return api.EntriesResult{}, err
	}
	if !ok {
		return api.EntriesResult{}, fmt.Errorf("%w: catalog %s: no entry %.64q from this site up", store.ErrNotFound, name, code)
	}
	out, _, err := n.putEntries(ctx, key, api.EntriesRequest{
		Catalog: name, Note: "retire " + code, Entries: []catalog.Row{{Row: 1, Fields: catalog.Fields{"code": code, catalog.Retired: "true"}}},
	})
	if err == nil && len(out.Problems) > 0 {
		err = out.Problems[0].Err()
	}
	return out, err
}
