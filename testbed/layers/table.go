package layers

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Module is the project's import path.
const Module = "github.com/tiermesh/tiermesh"

// Folders are the only top-level folders.
var Folders = []string{"node", "replication", "crdt", "tiers", "transport", "api", "cmd", "testbed"}

// Layer is a row of the layer table.
type Layer struct {
	// Package is the folder, or with a final "/..." it and all below it.
	Package string
	// May lists the packages of ours that it may import; "..." is all.
	May []string
}

// Table is the layer table: lower layers first. The first row that matches a
// package holds.
var Table = []Layer{
	{"tiers", nil},
	{"tiers/instant", nil},
	{"tiers/legible", nil},
	{"tiers/strictjson", nil},
	{"tiers/input", []string{"tiers/strictjson"}},
	{"crdt", []string{"tiers"}},
	{"crdt/change", []string{"tiers", "crdt"}},
	{"crdt/engine", []string{"tiers", "crdt", "crdt/change"}},
	{"crdt/reading", nil},
	{"transport/wire", []string{"tiers"}},
	{"transport/identity", []string{"tiers"}},
	{"replication/store", []string{"tiers", "crdt", "crdt/change", "crdt/reading"}},
	{"replication/archive", nil},
	{"replication", []string{"tiers", "crdt", "replication/archive", "replication/store"}},
	{"replication/document", []string{"tiers", "crdt", "crdt/change", "replication/store"}},
	{"replication/view", []string{"tiers", "crdt", "crdt/change", "replication/store", "replication/document"}},
	{"transport", []string{"tiers", "transport/wire", "transport/identity"}},
	{"tiers/federation", []string{"tiers", "crdt", "transport/wire"}},
	{"tiers/catalog", []string{"tiers", "crdt", "tiers/input"}},
	{"tiers/track", []string{"tiers", "crdt"}},
	{"tiers/event", []string{"tiers", "tiers/instant", "tiers/strictjson", "crdt"}},
	{"tiers/dispatch", []string{"tiers", "crdt"}},
	{"tiers/responder", []string{"tiers", "crdt"}},
	{"tiers/indicator", []string{"tiers", "crdt", "crdt/reading"}},
	{"tiers/command", []string{"tiers", "crdt"}},
	{"tiers/aggregate", []string{"tiers", "crdt"}},
	{"tiers/review", []string{"tiers", "crdt"}},
	{"api", []string{
		"tiers", "tiers/instant", "tiers/strictjson", "tiers/catalog", "tiers/track", "tiers/event", "tiers/dispatch", "tiers/responder", "tiers/indicator",
		"tiers/command", "tiers/aggregate", "tiers/review", "crdt", "crdt/reading",
	}},
	{"node", []string{
		"tiers", "crdt", "crdt/change", "crdt/engine", "replication", "replication/store", "replication/document", "replication/view", "transport",
		"transport/wire", "transport/identity", "tiers/federation", "tiers/catalog", "tiers/track", "tiers/event",
		"tiers/dispatch", "tiers/responder", "tiers/indicator", "tiers/command", "tiers/aggregate", "tiers/review", "crdt/reading", "api",
	}},
	{"cmd/...", []string{"..."}},
	{"testbed/...", []string{"..."}},
}

// Owner says which packages of ours may import a third-party module.
type Owner struct {
	Module   string
	Packages []string
}

// Owners lists every third-party module that may be imported; one that is not
// here needs a line in an ADR first.
var Owners = []Owner{
	{"cel.dev/cel-go", []string{"tiers/dispatch"}},
	{"github.com/anishathalye/porcupine", []string{"testbed/oracle"}},
	{"github.com/automerge/automerge-go", []string{"crdt/engine"}},
	{"github.com/cockroachdb/pebble/v2", []string{"replication/store", "testbed/sim"}},
	{"github.com/coder/websocket", []string{"api"}},
	{"github.com/fxamacker/cbor/v2", []string{"crdt/engine", "replication", "transport/wire"}},
	{"github.com/google/uuid", []string{"node", "cmd/..."}},
	{"github.com/hashicorp/go-hclog", []string{"replication", "testbed/bench"}},
	{"github.com/hashicorp/go-msgpack/v2", []string{"replication"}},
	{"github.com/hashicorp/raft", []string{"replication", "testbed/bench"}},
	{"github.com/hashicorp/raft-boltdb/v2", []string{"replication", "testbed/bench"}},
	{"github.com/klauspost/compress", []string{"replication", "transport/wire", "testbed/byzantine"}},
	{"github.com/paulmach/orb", []string{"tiers/dispatch"}},
	{"github.com/prometheus/client_golang", []string{"api", "node"}},
	{"github.com/quic-go/quic-go", []string{"transport", "testbed/sim"}},
	{"github.com/spf13/cobra", []string{"cmd/..."}},
	{"go.etcd.io/bbolt", []string{"replication", "testbed/bench"}},
	{"golang.org/x/mod", []string{"tiers/catalog"}},
	{"golang.org/x/sync", []string{"replication/view", "api", "node", "testbed/..."}},
	{"golang.org/x/sys", []string{"cmd/...", "testbed/netns"}},
	{"golang.org/x/text", []string{"tiers/input", "cmd/..."}},
	{"gonum.org/v1/plot", []string{"testbed/report"}},
}

// TestOnly lists the modules that test files may import besides.
var TestOnly = []string{
	"github.com/cockroachdb/datadriven",
	"github.com/rogpeppe/go-internal",
	"go.uber.org/goleak",
	"pgregory.net/rapid",
}

// matches reports whether a folder is pattern, or below it for "x/...".
func matches(pattern, folder string) bool {
	if above, ok := strings.CutSuffix(pattern, "/..."); ok {
		return folder == above || strings.HasPrefix(folder, above+"/")
	}
	return pattern == "..." || pattern == folder
}

func matchesAny(patterns []string, folder string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, folder) })
}

// layerOf returns the row of a folder.
func layerOf(folder string) (Layer, bool) {
	i := slices.IndexFunc(Table, func(l Layer) bool { return matches(l.Package, folder) })
	if i < 0 {
		return Layer{}, false
	}
	return Table[i], true
}

// inModule reports whether an import path is of a module.
func inModule(module, imported string) bool {
	return imported == module || strings.HasPrefix(imported, module+"/")
}

// judgeImport says what is wrong with one import, or "".
func judgeImport(folder, imported string, test bool) string {
	if ours, ok := strings.CutPrefix(imported, Module+"/"); ok {
		row, known := layerOf(folder)
		switch {
		case !known:
			return fmt.Sprintf("package %s has no row in the layer table", folder)
		case test || ours == folder || matchesAny(row.May, ours):
			return ""
		}
		return fmt.Sprintf("layer: %s may not import %s", folder, ours)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for _, o := range Owners {
		if inModule(o.Module, imported) {
			if matchesAny(o.Packages, folder) {
				return ""
			}
			return fmt.Sprintf("owner: %s belongs to %s", imported, strings.Join(o.Packages, " and "))
		}
	}
	if test && slices.ContainsFunc(TestOnly, func(m string) bool { return inModule(m, imported) }) {
		return ""
	}
	return fmt.Sprintf("owner: %s is imported by nobody (an ADR first)", imported)
}

// Depguard returns the rules of the table for the linter, as YAML with the
// given indent: one rule for each row, on files that are not tests.
func Depguard(indent string) string {
	var b strings.Builder
	line := func(depth int, format string, args ...any) {
		fmt.Fprintf(&b, "%s%s%s\n", indent, strings.Repeat("  ", depth), fmt.Sprintf(format, args...))
	}
	for _, row := range Table {
		if matchesAny(row.May, Module) {
			continue // may import all of ours; its third-party imports the test checks
		}
		line(0, "%s:", strings.ReplaceAll(row.Package, "/", "-"))
		line(1, "list-mode: strict")
		line(1, "files:")
		line(2, "- %q", path.Join("**", row.Package, "*.go"))
		for _, other := range Table {
			if other.Package != row.Package && strings.HasSuffix(other.Package, "/"+row.Package) {
				line(2, "- %q", "!"+path.Join("**", other.Package, "*.go"))
			}
		}
		line(2, "- \"!$test\"")
		line(1, "allow:")
		line(2, "- $gostd")
		for _, p := range row.May {
			line(2, "- %s/%s$", Module, p)
		}
		for _, o := range Owners {
			if matchesAny(o.Packages, row.Package) {
				line(2, "- %s", o.Module)
			}
		}
	}
	return b.String()
}
