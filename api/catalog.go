package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// Catalogs is the part of a node that keeps catalogs.
type Catalogs interface {
	// Catalogs lists the catalogs with what holds at this site; of one with a name it
	// tells the fields, too.
	Catalogs(ctx context.Context, name string) ([]CatalogInfo, error)
	// Entries returns a page of entries, in the order of their codes.
	Entries(ctx context.Context, q EntriesQuery) (EntriesPage, error)
	// PutEntries writes entries to this site's own catalog, as one new version.
	PutEntries(ctx context.Context, r EntriesRequest) (EntriesResult, error)
	// RetireEntry retires an entry.
	RetireEntry(ctx context.Context, r RetireRequest) (EntriesResult, error)
	// CatalogVersions lists the versions of a site's catalog, the latest first.
	CatalogVersions(ctx context.Context, q EntriesQuery) (VersionList, error)
	// CatalogDiff says what differs between two versions.
	CatalogDiff(ctx context.Context, q DiffQuery) (CatalogDiff, error)
}

// EntriesMax is how many entries a request may hold.
const EntriesMax = 1000

// CatalogInfo is a catalog as this site sees it.
type CatalogInfo struct {
	Name    string `json:"name"`
	Chinese string `json:"chinese"`
	Kind    string `json:"kind"`
	// Entries is how many codes hold at this site, retired ones too.
	Entries int `json:"entries"`
	// Sources are the sites that have entries or versions of it, the nearest first.
	Sources []CatalogSource `json:"sources"`
	// Fields are left out of a list.
	Fields []catalog.Field `json:"fields,omitempty"`
}

// CatalogSource is a site's own part of a catalog.
type CatalogSource struct {
	Site    tiers.SiteID `json:"site"`
	Version uint64       `json:"version"`
	Entries int          `json:"entries"`
	// AtMS is when the version was made; 0 for version 0.
	AtMS int64 `json:"at_ms,omitempty"`
}

// CatalogList is a list of catalogs.
type CatalogList struct {
	Catalogs []CatalogInfo `json:"catalogs"`
}

// EntriesQuery selects entries or versions of a catalog.
type EntriesQuery struct {
	Catalog string
	// Site is whose; empty means what holds here, or of a version the nearest site
	// that has versions.
	Site tiers.SiteID
	// Version is which; 0 for the present entries.
	Version uint64
	After   string
	// Limit is the page size, 1 to 1,000.
	Limit int
}

// EntriesPage is part of a catalog.
type EntriesPage struct {
	Catalog string `json:"catalog"`
	// Site and Version are those of a version that was asked for.
	Site    tiers.SiteID    `json:"site,omitempty"`
	Version uint64          `json:"version,omitempty"`
	Entries []catalog.Entry `json:"entries"`
	// Next continues behind this page; empty at the end.
	Next string `json:"next,omitempty"`
}

// EntriesRequest writes entries under an idempotency key.
type EntriesRequest struct {
	Key string `json:"key"`
	// Catalog is the one in the path.
	Catalog string        `json:"-"`
	Entries []catalog.Row `json:"entries"`
	// With are codes that the same import brings in other requests, so that entries
	// of one catalog may refer to each other.
	With []string `json:"with"`
	// DryRun writes nothing; SkipBad writes the good rows although others are bad;
	// Resolve settles conflicts in fields that a row gives.
	DryRun  bool   `json:"dry_run"`
	SkipBad bool   `json:"skip_bad"`
	Resolve bool   `json:"resolve"`
	Note    string `json:"note"`
	// Confirm writes fields that have these values already, too; see [EditRequest].
	Confirm bool `json:"confirm,omitempty"`
}

// EntriesResult says what became of entries.
type EntriesResult struct {
	Catalog string       `json:"catalog"`
	Site    tiers.SiteID `json:"site"`
	// Version is the one that the write made, or else the last one; Written says that
	// anything was written.
	Version   uint64 `json:"version"`
	Written   bool   `json:"written"`
	Added     int    `json:"added"`
	Changed   int    `json:"changed"`
	Unchanged int    `json:"unchanged"`
	// Repeated says that the key was used before: Changed counts added ones, too.
	Repeated bool              `json:"repeated,omitempty"`
	Problems []catalog.Problem `json:"problems"`
}

// RetireRequest retires an entry.
type RetireRequest struct {
	Key     string `json:"key"`
	Catalog string `json:"-"`
	Code    string `json:"code"`
}

// VersionList is a list of versions.
type VersionList struct {
	Catalog  string                `json:"catalog"`
	Site     tiers.SiteID          `json:"site"`
	Versions []catalog.VersionView `json:"versions"`
}

// DiffQuery selects two versions of a site's catalog; from 0 for none, to 0 for the
// last.
type DiffQuery struct {
	Catalog  string
	Site     tiers.SiteID
	From, To uint64
	After    string
	// Limit bounds the changes, 1 to 1,000.
	Limit int
}

// CatalogDiff is what differs between two versions.
type CatalogDiff struct {
	Catalog string           `json:"catalog"`
	Site    tiers.SiteID     `json:"site"`
	From    uint64           `json:"from"`
	To      uint64           `json:"to"`
	Changes []catalog.Change `json:"changes"`
	Next    string           `json:"next,omitempty"`
}

func (s *Server) catalogRoutes(mux *http.ServeMux) {
	b := s.cfg.Backend
	mux.Handle("GET /v1/catalogs", s.handle(func(r *http.Request) (any, error) {
		all, err := b.Catalogs(r.Context(), "")
		return CatalogList{all}, err
	}))
	mux.Handle("GET /v1/catalogs/{name}", s.handle(func(r *http.Request) (any, error) {
		all, err := b.Catalogs(r.Context(), r.PathValue("name"))
		if err != nil {
			return nil, err
		}
		return all[0], nil
	}))
	mux.Handle("GET /v1/catalogs/{name}/entries", s.handle(func(r *http.Request) (any, error) {
		q, err := catalogQuery(r)
		if err != nil {
			return nil, err
		}
		return b.Entries(r.Context(), EntriesQuery{q.Catalog, q.Site, q.To, q.After, q.Limit})
	}))
	mux.Handle("GET /v1/catalogs/{name}/versions", s.handle(func(r *http.Request) (any, error) {
		q, err := catalogQuery(r)
		if err != nil {
			return nil, err
		}
		return b.CatalogVersions(r.Context(), EntriesQuery{q.Catalog, q.Site, q.To, q.After, q.Limit})
	}))
	mux.Handle("GET /v1/catalogs/{name}/diff", s.handle(func(r *http.Request) (any, error) {
		q, err := catalogQuery(r)
		if err != nil {
			return nil, err
		}
		return b.CatalogDiff(r.Context(), q)
	}))
	mux.Handle("POST /v1/catalogs/{name}/entries", s.handle(func(r *http.Request) (any, error) {
		var req EntriesRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		if len(req.Entries) > EntriesMax {
			return nil, fmt.Errorf("%w: %d entries: want at most %d", ErrInvalid, len(req.Entries), EntriesMax)
		}
		if len(req.Note) > noteBytesMax {
			return nil, fmt.Errorf("%w: note of %d bytes: want at most %d", ErrInvalid, len(req.Note), noteBytesMax)
		}
		req.Catalog = r.PathValue("name")
		return b.PutEntries(r.Context(), req)
	}))
	mux.Handle("POST /v1/catalogs/{name}/retire", s.handle(func(r *http.Request) (any, error) {
		var req RetireRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		req.Catalog = r.PathValue("name")
		return b.RetireEntry(r.Context(), req)
	}))
}

// noteBytesMax bounds the note of a version.
const noteBytesMax = 512

// catalogQuery reads the parameters of all catalog queries; "version" stands for
// "to".
func catalogQuery(r *http.Request) (DiffQuery, error) {
	q := DiffQuery{Catalog: r.PathValue("name"), Limit: limitDefault}
	for name, values := range r.URL.Query() {
		var err error
		switch v := values[0]; name {
		case "site":
			q.Site = tiers.SiteID(v)
			err = q.Site.Validate()
		case "from":
			q.From, err = strconv.ParseUint(v, 10, 63)
		case "to", "version":
			q.To, err = strconv.ParseUint(v, 10, 63)
		case "after":
			q.After = v
		case "limit":
			q.Limit, err = strconv.Atoi(v)
		case "read": // place has looked at it
		default:
			return q, fmt.Errorf("%w: unknown parameter %q: want site, version, from, to, after or limit", ErrInvalid, name)
		}
		if name == "site" && err != nil {
			return q, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if err != nil {
			return q, fmt.Errorf("%w: %s %.40q: want a whole number from 0", ErrInvalid, name, values[0])
		}
	}
	if q.Limit < 1 || q.Limit > limitMax {
		return q, fmt.Errorf("%w: limit %d: want 1 to %d", ErrInvalid, q.Limit, limitMax)
	}
	if err := tiers.NewDocID("code", q.After).Validate(); q.After != "" && err != nil {
		return q, fmt.Errorf("%w: after: %w", ErrInvalid, err)
	}
	return q, nil
}
