package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/tiers"
)

// Config says what to play.
type Config struct {
	// Dir holds the federation; one of an earlier run is taken up.
	Dir string
	// Events, Townships and Districts size the job.
	Events, Townships, Districts int
	// Seed varies which township reports which request.
	Seed uint64
	// Input is the requests' CSV; nil means the built-in file.
	Input io.Reader
	// API makes the sites serve their API.
	API bool
	// Progress is told what happens, one line or bar at a time.
	Progress Progress
	Logger   *slog.Logger
}

// Progress shows a run to a person. Step begins a phase, Bar moves inside it,
// Line states a result. Implementations are safe for concurrent use.
type Progress interface {
	Step(text string)
	Bar(done, of int, what string)
	Line(text string)
}

// The bounds of Validate.
const (
	districtsMax = 38
	townshipsMax = 200
	eventsMax    = 1_000_000
)

// ErrConfig reports a size that the demo cannot play.
var ErrConfig = errors.New("demo: invalid size")

// Validate reports the first size out of bounds. The error wraps [ErrConfig].
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return fmt.Errorf("%w: no directory", ErrConfig)
	case c.Districts < 1 || c.Districts > districtsMax:
		return fmt.Errorf("%w: %d districts: want 1 to %d", ErrConfig, c.Districts, districtsMax)
	case c.Townships < c.Districts || c.Townships > townshipsMax:
		return fmt.Errorf("%w: %d townships: want at least one a district (%d) and at most %d", ErrConfig, c.Townships, c.Districts, townshipsMax)
	case c.Events < 1 || c.Events > eventsMax:
		return fmt.Errorf("%w: %d events: want 1 to %d", ErrConfig, c.Events, eventsMax)
	}
	return nil
}

// Table is the closing table. Its JSON keys are part of the CLI's contract.
type Table struct {
	Sites        int `json:"sites"`
	Reported     int `json:"reported"`
	Acknowledged int `json:"acknowledged"`
	Quarantined  int `json:"quarantined"`
	Dispatched   int `json:"dispatched"`
	Lost         int `json:"lost"`
	Duplicated   int `json:"duplicated"`
	Diverged     int `json:"diverged"`
	// Conflicts is the number of sites at which the planted conflict is
	// visible; ConflictSites is how many should show it.
	Conflicts     int `json:"conflicts"`
	ConflictSites int `json:"conflict_sites"`
	Violations    int `json:"violations"`
	Healing
	Steps
}

// Healing is what it took to agree again after the cuts, which depends on the machine:
// it is told, and no verdict.
type Healing struct {
	ConvergeS float64 `json:"converge_s"`
	// Machine is what to read times by: what a fixed piece of work took just before.
	Machine     report.Machine `json:"machine"`
	WireBytes   uint64         `json:"wire_bytes"`
	NeededBytes uint64         `json:"needed_bytes"`
}

// Holds reports whether the run proved what it set out to.
func (t Table) Holds() bool {
	return t.Lost == 0 && t.Duplicated == 0 && t.Diverged == 0 && t.Violations == 0 &&
		t.Acknowledged == t.Reported && t.Dispatched == t.Reported && t.Conflicts == t.ConflictSites && t.Conflicts > 0 && t.hold()
}

// player is one run in progress.
type player struct {
	cfg       Config
	p         Progress
	cluster   *local.Cluster
	run       int // how many runs this directory has seen, from 1
	cast      cast
	story     story
	townships []tiers.SiteID
	events    []reported
	table     Table
	patience  time.Duration // of checks; zero means stallAfter
}

// Run plays the job and returns its table. The cluster is returned open for
// the caller to serve from and to Close, also on an error, unless it is nil.
func Run(ctx context.Context, cfg Config) (Table, *local.Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return Table{}, nil, err
	}
	d := &player{cfg: cfg, p: cfg.Progress}
	if err := d.open(ctx); err != nil {
		return d.table, d.cluster, err
	}
	for _, phase := range []func(context.Context) error{
		d.publish, d.readInput, d.reportConnected, d.partition, d.goOn, d.heal, d.prove, d.verify,
	} {
		if err := phase(ctx); err != nil {
			return d.table, d.cluster, err
		}
	}
	return d.table, d.cluster, nil
}

// open starts the federation in the run's directory.
func (d *player) open(ctx context.Context) error {
	rows, err := d.sites()
	if err != nil {
		return err
	}
	if err := d.countRun(rows); err != nil {
		return err
	}
	d.table.Sites = len(rows)
	if i := slices.IndexFunc(rows, func(r tiers.Site) bool { return r.ID == d.cast.moved }); i >= 0 && d.run > 1 {
		// It begins where it was before an earlier run moved it; what its parent of then
		// wrote to its streams stays good. Every site has to know that at its start.
		rows[i].Former = []tiers.SiteID{d.cast.cutDistrict}
	}
	if err := diskOf(d.cfg.Dir, d.cast.restored).undo(); err != nil {
		return err
	}
	d.p.Step(fmt.Sprintf("starting %d sites in %s", len(rows), d.cfg.Dir))
	d.cluster, err = local.Open(ctx, local.Config{
		Dir: d.cfg.Dir, Federation: "chongqing-demo", Sites: rows, Logger: d.cfg.Logger, API: d.cfg.API,
		RedialMax: time.Second, LinkIdle: linkIdle, StandInAfter: standInAfter,
	}, func(up, of int) { d.p.Bar(up, of, "sites up") })
	return err
}

// sites picks the first districts and deals the townships out to them evenly.
func (d *player) sites() ([]tiers.Site, error) {
	districts, err := data.Districts()
	if err != nil {
		return nil, err
	}
	townships, err := data.Townships()
	if err != nil {
		return nil, err
	}
	city := tiers.SiteID("500000")
	rows := []tiers.Site{{ID: city, Tier: tiers.TierCity, Name: "重庆市"}}
	var hubs []tiers.SiteID
	var ends []tiers.Site
	for i, dist := range districts[:d.cfg.Districts] {
		rows = append(rows, tiers.Site{ID: dist.Code, Tier: tiers.TierDistrict, Name: dist.Name, Parent: city})
		hubs = append(hubs, dist.Code)
		want := d.cfg.Townships / d.cfg.Districts
		if i < d.cfg.Townships%d.cfg.Districts {
			want++
		}
		for _, t := range townships {
			if want == 0 {
				break
			}
			if t.District != dist.Code {
				continue
			}
			want--
			rows = append(rows, tiers.Site{ID: t.Code, Tier: tiers.TierTownship, Name: t.Name, Parent: dist.Code})
			d.townships, ends = append(d.townships, t.Code), append(ends, rows[len(rows)-1])
		}
		if want > 0 {
			return nil, fmt.Errorf("%w: district %s %s has too few townships", ErrConfig, dist.Code, dist.Name)
		}
	}
	d.cast = castFor(city, hubs, ends)
	return rows, nil
}

// runFile remembers what a directory was made for and how often it was used.
type runFile struct {
	Runs  int            `json:"runs"`
	Sites []tiers.SiteID `json:"sites"`
}

// countRun refuses a directory that holds a federation of other sites.
func (d *player) countRun(rows []tiers.Site) error {
	if err := os.MkdirAll(d.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("demo directory: %w", err)
	}
	path := filepath.Join(d.cfg.Dir, "run.json")
	now := runFile{Runs: 1}
	for _, r := range rows {
		now.Sites = append(now.Sites, r.ID)
	}
	if b, err := os.ReadFile(path); err == nil {
		var old runFile
		if err := json.Unmarshal(b, &old); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
		}
		if fmt.Sprint(old.Sites) != fmt.Sprint(now.Sites) {
			return fmt.Errorf("%w: %s holds a federation of other sites; use the same --districts and --townships or another --dir", ErrConfig, d.cfg.Dir)
		}
		now.Runs = old.Runs + 1
	} else if entries, err := os.ReadDir(d.cfg.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty and not a demo's directory", ErrConfig, d.cfg.Dir)
	}
	d.run = now.Runs
	b, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("demo directory: %w", err)
	}
	return os.Rename(path+".tmp", path)
}
