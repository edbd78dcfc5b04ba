package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestDuties: what the table of duties in tiers/DESIGN.md names is there: each
// identifier, each command with its flags, each test. And what is not is found.
func TestDuties(t *testing.T) {
	b, err := os.ReadFile("../../tiers/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "## Duties\n")
	text, _, _ = strings.Cut(text, "\n## ")
	d := declared(t)
	rows := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| article") {
			rows++
			for _, bad := range d.problems(line) {
				t.Errorf("%s: %s", line[:min(len(line), 60)], bad)
			}
		}
	}
	if rows < 40 {
		t.Errorf("%d rows", rows)
	}
	for bad, want := range map[string]string{
		"| x | `dispatch.Nothing` | `tiermesh status` | `TestDuties` |":                         "no dispatch.Nothing",
		"| x | `dispatch.TaskView.Nothing` | `tiermesh status` | `TestDuties` |":                "no dispatch.TaskView.Nothing",
		"| x | `event.View.Check` | `tiermesh task sing ID` | `TestDuties` |":                   "no command tiermesh task sing",
		"| x | `event.View.Check` | `tiermesh task sign\\|sing ID` | `TestDuties` |":            "no command tiermesh task sing",
		"| x | `event.View.Check` | `tiermesh task list --late` | `TestDuties` |":               "no flag --late of tiermesh task list",
		"| x | `event.View.Check` | `tiermesh task sign ID` | `TestNeverWritten` |":             "no test TestNeverWritten",
		"| x | `event.View.Check` | `tiermesh task sign ID` | `TestScripts/nothing` |":          "no script nothing",
		"| x | `event.View.Check` | `tiermesh task sign ID` | it works |":                       "3 of 4 cells name something",
		"| x | `event.View.Check` | `tiermesh task list --overdue` | `node` `TestScripts/task`": "3 cells",
	} {
		if got := strings.Join(d.problems(bad), "; "); got != want {
			t.Errorf("%s: %q, want %q", bad, got, want)
		}
	}
}

// tree is what the project declares: by package and name, with methods and fields as
// Type.Name; and its tests.
type tree struct{ names, tests map[string]bool }

func declared(t *testing.T) tree {
	t.Helper()
	d := tree{map[string]bool{}, map[string]bool{}}
	files := token.NewFileSet()
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			d.declare(f.Name.Name, decl)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d tree) declare(pkg string, decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv == nil {
			d.names[pkg+"."+decl.Name.Name] = true
			d.tests[decl.Name.Name] = true
			return
		}
		of := decl.Recv.List[0].Type
		if p, ok := of.(*ast.StarExpr); ok {
			of = p.X
		}
		d.names[fmt.Sprintf("%s.%s.%s", pkg, of, decl.Name.Name)] = true
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					d.names[pkg+"."+n.Name] = true
				}
			case *ast.TypeSpec:
				name := pkg + "." + spec.Name.Name
				d.names[name] = true
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						for _, n := range f.Names {
							d.names[name+"."+n.Name] = true
						}
					}
				}
			}
		}
	}
}

var quoted = regexp.MustCompile("`([^`]+)`")

// problems says what a row names that is not there.
func (d tree) problems(row string) (out []string) {
	cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(row), `\|`, "\x00"), "|")
	if len(cells) != 6 {
		return []string{fmt.Sprintf("%d cells", len(cells)-2)}
	}
	named := 1
	for i, check := range []func(string) string{d.identifier, missing, d.test} {
		found := quoted.FindAllStringSubmatch(cells[i+2], -1)
		named += min(len(found)+strings.Count(cells[i+2], "adr/"), 1)
		for _, m := range found {
			if bad := check(m[1]); bad != "" {
				out = append(out, bad)
			}
		}
	}
	if named < 4 {
		out = append(out, fmt.Sprintf("%d of 4 cells name something", named))
	}
	return out
}

func (d tree) identifier(name string) string {
	if d.names[name] {
		return ""
	}
	return "no " + name
}

var script = regexp.MustCompile(`^TestScripts/(\w+)$`)

func (d tree) test(name string) string {
	if m := script.FindStringSubmatch(name); m != nil {
		if _, err := os.Stat(filepath.Join("testdata", m[1]+".txtar")); err != nil {
			return "no script " + m[1]
		}
		return ""
	}
	if strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") {
		if !d.tests[name] {
			return "no test " + name
		}
		return ""
	}
	if _, err := os.Stat(filepath.Join("../..", name)); err != nil { // the package of the next one
		return "no package " + name
	}
	return ""
}

// missing says what of a command line is not there; words after what is no command
// are arguments.
func missing(line string) string {
	words := strings.Fields(line)
	at, path := newRoot(), "tiermesh"
	if words[0] != path {
		return line + " is no command"
	}
	for i, w := range words[1:] {
		flag, isFlag := strings.CutPrefix(w, "--")
		switch {
		case isFlag && at.Flags().Lookup(flag) == nil && at.InheritedFlags().Lookup(flag) == nil:
			return fmt.Sprintf("no flag %s of %s", w, path)
		case isFlag || strings.HasPrefix(words[i], "--") || !at.HasSubCommands() || strings.ToLower(w) != w:
			continue
		}
		var next *cobra.Command
		for _, name := range strings.Split(w, "\x00") {
			i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
			if i < 0 {
				return fmt.Sprintf("no command %s %s", path, name)
			}
			next = at.Commands()[i]
		}
		at, path = next, path+" "+next.Name()
	}
	return ""
}
