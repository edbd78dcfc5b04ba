package catalog

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The document kinds of what runs where; also the names of their indexes.
const (
	// KindInstall is what a site runs: one document an application, in its own
	// catalog stream.
	KindInstall = "install"
	// KindCapacity is what a site has to run applications on.
	KindCapacity = "capacity"
	// KindReplication is an order to a site to run an application.
	KindReplication = "replication"
)

// IndexReplicationPending lists the replications that their sites have yet to
// decide on, by site.
const IndexReplicationPending = "replication.pending"

// validVersion reports whether a text is MAJOR.MINOR.PATCH with an optional
// pre-release part (Semantic Versioning 2.0.0); build metadata says nothing of
// order, and is refused.
func validVersion(s string) bool {
	return semver.IsValid("v"+s) && semver.Canonical("v"+s) == "v"+s
}

// CompareVersions compares two versions by precedence; one that is none is the
// lowest.
func CompareVersions(a, b string) int { return semver.Compare("v"+a, "v"+b) }

// AppCode is the code of a release's entry.
func AppCode(app, version string) string { return app + "_" + version }

// Needs is what an application asks of a site.
type Needs struct {
	CPUCores float64 `json:"cpu_cores"`
	MemoryMB float64 `json:"memory_mb"`
	DiskMB   float64 `json:"disk_mb"`
	GPU      float64 `json:"gpu"`
	// Runtimes are NAME or NAME>=VERSION; Apps are other applications, likewise.
	Runtimes []string `json:"runtimes,omitempty"`
	Apps     []string `json:"apps,omitempty"`
}

// App is a release of an application.
type App struct {
	Code, App, Version string
	Needs              Needs
	Retired            bool
}

// AppOf reads a release from its entry.
func AppOf(f Fields) App {
	n := func(name string) float64 { v, _ := strconv.ParseFloat(f[name], 64); return v }
	return App{
		Code: f["code"], App: f["app"], Version: f["version"], Retired: f[Retired] == "true",
		Needs: Needs{n("cpu_cores"), n("memory_mb"), n("disk_mb"), n("gpu"), strings.Fields(f["runtimes"]), strings.Fields(f["needs"])},
	}
}

// checkApp holds a release's code against its parts, and reads what it needs.
func checkApp(f Fields) *Problem {
	if want := AppCode(f["app"], f["version"]); f["code"] != want {
		return &Problem{Field: "code", Value: f["code"], Want: "the application and the version, as " + want}
	}
	for _, field := range []string{"runtimes", "needs"} {
		for _, w := range strings.Fields(f[field]) {
			name, version, versioned := strings.Cut(w, ">=")
			if name == "" || versioned && !validVersion(version) {
				return &Problem{Field: field, Value: w, Want: "NAME or NAME>=1.2.0"}
			}
		}
	}
	return nil
}

// Capacity is what a site has to run applications on.
type Capacity struct {
	CPUCores float64 `json:"cpu_cores"`
	MemoryMB float64 `json:"memory_mb"`
	DiskMB   float64 `json:"disk_mb"`
	GPU      float64 `json:"gpu"`
	// Runtimes are NAME or NAME=VERSION.
	Runtimes []string `json:"runtimes"`
}

// CapacityDoc is the one document of a site's capacity.
const CapacityDoc tiers.DocID = KindCapacity + ":site"

// capacityMax bounds each number of a capacity.
const capacityMax = 1e12

// CapacityOps returns the operations that make a site's capacity what it is. The
// error wraps [ErrInvalid].
func CapacityOps(before Fields, c Capacity) ([]crdt.Op, error) {
	after := Fields{}
	for _, x := range []struct {
		name  string
		value float64
	}{{"cpu_cores", c.CPUCores}, {"memory_mb", c.MemoryMB}, {"disk_mb", c.DiskMB}, {"gpu", c.GPU}} {
		if !(x.value >= 0 && x.value <= capacityMax) {
			return nil, fmt.Errorf("%w: %s %v: want 0 to %g", ErrInvalid, x.name, x.value, capacityMax)
		}
		after[x.name] = strconv.FormatFloat(x.value, 'f', -1, 64)
	}
	for _, r := range c.Runtimes {
		name, version, versioned := strings.Cut(r, "=")
		if name == "" || strings.ContainsAny(r, " \t\r\n<>") || len(r) > 64 || versioned && !validVersion(version) {
			return nil, fmt.Errorf("%w: runtime %.64q: want NAME or NAME=1.2.0", ErrInvalid, r)
		}
	}
	after["runtimes"] = strings.Join(c.Runtimes, " ")
	if err := checkText("runtimes", after["runtimes"], textBytesMax, false); err != nil {
		return nil, err
	}
	return Ops(before, after), nil
}

// CapacityOf reads a capacity.
func CapacityOf(f Fields) Capacity {
	n := AppOf(f).Needs
	return Capacity{n.CPUCores, n.MemoryMB, n.DiskMB, n.GPU, n.Runtimes}
}

// Install is an application that a site runs.
type Install struct {
	App     string `json:"app"`
	Version string `json:"version"`
	// Needs are those of the release, as it was when it was installed.
	Needs Needs `json:"needs"`
	// AtMS is when it was installed, in Unix milliseconds; Order is the replication
	// that asked for it.
	AtMS  int64       `json:"at_ms"`
	Order tiers.DocID `json:"order,omitempty"`
	// Used is the version of the catalog of applications that it was taken from.
	Used Used `json:"catalog_version,omitempty"`
	// Removed says that it runs no more.
	Removed bool `json:"removed,omitempty"`
}

// InstallDoc is the document of an application at a site.
func InstallDoc(app string) tiers.DocID { return tiers.NewDocID(KindInstall, app) }

// InstallOps returns the operations that write down what a site runs.
func InstallOps(i Install) ([]crdt.Op, error) {
	b, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{{Kind: crdt.OpPut, Key: keyHead, Value: string(b)}}, nil
}

// InstallView is what people see of an application at a site.
type InstallView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Install
	Pending int `json:"pending,omitempty"`
	Refused int `json:"refused,omitempty"`
}

// FoldInstall derives the view of an application at a site. Only the site itself
// says what it runs; of two that it wrote in two incarnations the later holds.
func FoldInstall(s *crdt.Source) (crdt.View, error) {
	v := InstallView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Pending: s.Pending, Refused: s.Refused}
	best := ""
	for _, w := range s.Document.Root.Field(keyHead) {
		var x Install
		b, _ := w.Node.Scalar.(string)
		if json.Unmarshal([]byte(b), &x) != nil || s.Authors[w.Actor].Site != s.Stream.Site || InstallDoc(x.App) != s.Doc {
			continue
		}
		if best == "" || x.AtMS > v.AtMS || x.AtMS == v.AtMS && b > best {
			v.Install, best = x, b
		}
	}
	if best == "" && s.Pending == 0 {
		return crdt.View{}, fmt.Errorf("%w: %s of %s is nothing that the site wrote", ErrInvalid, s.Doc, s.Stream)
	}
	return made(s, v, crdt.IndexEntry{Name: KindInstall, Value: s.Doc.Name()})
}

// Lacks says what a site lacks to run a release beside what it runs already, in
// words; nothing when it can. An earlier version of the same application makes room
// for it.
func Lacks(a App, c Capacity, runs []Install) (missing []string) {
	others := slices.DeleteFunc(slices.Clone(runs), func(i Install) bool { return i.App == a.App || i.Removed })
	used := Needs{}
	for _, i := range others {
		used.CPUCores += i.Needs.CPUCores
		used.MemoryMB += i.Needs.MemoryMB
		used.DiskMB += i.Needs.DiskMB
		used.GPU += i.Needs.GPU
	}
	for _, x := range []struct {
		name              string
		needs, has, inUse float64
	}{
		{"cpu_cores", a.Needs.CPUCores, c.CPUCores, used.CPUCores}, {"memory_mb", a.Needs.MemoryMB, c.MemoryMB, used.MemoryMB},
		{"disk_mb", a.Needs.DiskMB, c.DiskMB, used.DiskMB}, {"gpu", a.Needs.GPU, c.GPU, used.GPU},
	} {
		if x.needs > x.has-x.inUse {
			missing = append(missing, fmt.Sprintf("%s: needs %v, %v of %v are free", x.name, x.needs, max(x.has-x.inUse, 0), x.has))
		}
	}
	for _, want := range a.Needs.Runtimes {
		if !slices.ContainsFunc(c.Runtimes, func(r string) bool {
			name, version, _ := strings.Cut(r, "=")
			return fits(want, name, version)
		}) {
			missing = append(missing, "runtime: needs "+want)
		}
	}
	for _, want := range a.Needs.Apps {
		if !slices.ContainsFunc(others, func(i Install) bool { return fits(want, i.App, i.Version) }) {
			missing = append(missing, "app: needs "+want)
		}
	}
	for _, i := range others {
		for _, want := range i.Needs.Apps {
			if name, _, _ := strings.Cut(want, ">="); name == a.App && !fits(want, a.App, a.Version) {
				missing = append(missing, fmt.Sprintf("app: %s %s needs %s", i.App, i.Version, want))
			}
		}
	}
	return missing
}

// fits reports whether a version of something is what NAME or NAME>=VERSION wants.
func fits(want, name, version string) bool {
	n, least, versioned := strings.Cut(want, ">=")
	return n == name && (!versioned || version != "" && CompareVersions(version, least) >= 0)
}

// NeededBy lists what of the installed applications needs another one.
func NeededBy(app string, runs []Install) (out []string) {
	for _, i := range runs {
		for _, want := range i.Needs.Apps {
			if name, _, _ := strings.Cut(want, ">="); name == app && !i.Removed && i.App != app {
				out = append(out, i.App)
			}
		}
	}
	return out
}
