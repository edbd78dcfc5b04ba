package layers_test

import (
	"flag"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tiermesh/tiermesh/testbed/layers"
)

var update = flag.Bool("update", false, "write the linter's rules from the layer table")

// TestTree holds the whole project against the table and the sizes.
func TestTree(t *testing.T) {
	found, err := layers.Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// TestLinterConfig holds the linter's depguard rules against the table.
func TestLinterConfig(t *testing.T) {
	const file, begin, end = "../../.golangci.yml", "# begin layer table\n", "        # end layer table\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s: no lines %q and %q", file, begin, end)
	}
	want := head + begin + layers.Depguard("        ") + end + tail
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(b) {
		t.Errorf("%s does not have the layer table's rules: run make generate", file)
	}
}

// clean is a tree without a breach.
func clean() fstest.MapFS {
	tree := fstest.MapFS{}
	for _, f := range layers.Folders {
		tree[f+"/DESIGN.md"] = &fstest.MapFile{Data: []byte("proved by `TestIt`\n")}
	}
	tree["crdt/engine/doc.go"] = &fstest.MapFile{Data: []byte("package engine\n")}
	tree["tiers/doc.go"] = &fstest.MapFile{Data: []byte("package tiers\n")}
	tree["tiers/it_test.go"] = &fstest.MapFile{Data: []byte("package tiers\n\nfunc TestIt() {}\n")}
	return tree
}

func TestPlantedDefects(t *testing.T) {
	if found, err := layers.Check(clean()); err != nil || len(found) != 0 {
		t.Fatalf("the clean tree: %v, %v", found, err)
	}
	const ours = "\"" + layers.Module + "/"
	for name, row := range map[string]struct {
		file, text, want string
	}{
		"import upwards":         {"tiers/x.go", "package tiers\nimport " + ours + "node\"\n", "tiers may not import node"},
		"import of a sibling":    {"tiers/x.go", "package tiers\nimport " + ours + "crdt\"\n", "tiers may not import crdt"},
		"another's module":       {"tiers/x.go", "package tiers\nimport \"github.com/cockroachdb/pebble/v2/vfs\"\n", "belongs to replication/store"},
		"unknown module":         {"tiers/x.go", "package tiers\nimport \"example.com/x\"\n", "an ADR first"},
		"test module in product": {"tiers/x.go", "package tiers\nimport \"pgregory.net/rapid\"\n", "an ADR first"},
		"blank import":           {"tiers/x.go", "package tiers\nimport _ \"net/http/pprof\"\n", "blank import"},
		"init":                   {"tiers/x.go", "package tiers\nfunc init() {}\n", "init function"},
		"unfinished":             {"tiers/x.go", "package tiers\n// TO" + "DO: all of it\n", "unfinished"},
		"long function":          {"tiers/x.go", "package tiers\nfunc f() {" + strings.Repeat("\n", 71) + "}\n", "f is 72 lines"},
		"long file":              {"tiers/x.go", "package tiers\n" + strings.Repeat("\n", 600), "601 lines"},
		"wide struct":            {"tiers/x.go", "package tiers\ntype s struct {" + strings.Repeat("a int;", 16) + "}\n", "struct of 16"},
		"exit":                   {"tiers/x.go", "package tiers\nimport \"os\"\nfunc f() { os.Exit(1) }\n", "os.Exit"},
		"wordy error":            {"tiers/x.go", "package tiers\nvar e = \"failed " + "to do\"\n", "what was done"},
		"keys in any case":       {"crdt/engine/x.go", "package engine\nimport \"github.com/fxamacker/cbor/v2\"\nvar o = cbor.DecOptions{MaxMapPairs: 8}\n", "in any case"},
		"default decoder":        {"crdt/engine/x.go", "package engine\nimport \"github.com/fxamacker/cbor/v2\"\nvar f = cbor.Unmarshal\n", "use a DecMode"},
		"sleep in a test":        {"tiers/x_test.go", "package tiers\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
		"no doc.go":              {"testbed/x/x.go", "package x\n", "testbed/x: no doc.go"},
		"vague name":             {"testbed/util/doc.go", "package util\n", "says nothing"},
		"package without a row":  {"tiers/x/doc.go", "package x\n", "no row"},
		"top-level folder":       {"pkg/x.txt", "", "top-level folder"},
		"test that is not there": {"node/DESIGN.md", "| x | `TestNothing` |\n", "node/DESIGN.md:1: TestNothing does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := maps.Clone(clean())
			tree[row.file] = &fstest.MapFile{Data: []byte(row.text)}
			found, err := layers.Check(tree)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != 1 || !strings.Contains(found[0], row.want) {
				t.Errorf("found %q, want one with %q", found, row.want)
			}
		})
	}
	t.Run("no DESIGN.md", func(t *testing.T) {
		tree := clean()
		delete(tree, "api/DESIGN.md")
		if found, err := layers.Check(tree); err != nil || len(found) != 1 || found[0] != "api: no DESIGN.md" {
			t.Errorf("found %q, %v", found, err)
		}
	})
	t.Run("sleep in a bubble", func(t *testing.T) {
		tree := clean()
		tree["tiers/x_test.go"] = &fstest.MapFile{Data: []byte(
			"package tiers\nimport (\"time\"; \"testing/synctest\")\nfunc f() { time.Sleep(1); synctest.Wait() }\n")}
		if found, err := layers.Check(tree); err != nil || len(found) != 0 {
			t.Errorf("found %q, %v", found, err)
		}
	})
}
