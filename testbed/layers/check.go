package layers

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The sizes past which a file, a function or a struct is split (STYLE: Size).
const (
	fileLinesMax    = 600
	funcLinesMax    = 70
	structFieldsMax = 15
)

// blankImports are the only imports for effect: one links the Automerge
// library, one enables //go:embed, and one brings the time zones along.
var blankImports = []string{"github.com/automerge/automerge-go", "embed", "time/tzdata"}

// buildOutput is where "make build" puts the command; git does not know it.
const buildOutput = "bin"

// vagueNames are package names that say nothing.
var vagueNames = []string{"util", "utils", "common", "helpers", "helper", "misc", "shared"}

// exits are the folders whose code may end the process.
var exits = []string{"cmd/...", "node"}

// Check returns every breach in the tree, as "file:line: what", in path order.
func Check(tree fs.FS) ([]string, error) {
	c := &checker{fset: token.NewFileSet(), folders: map[string]bool{}, docs: map[string]bool{}, tests: map[string]bool{}}
	if err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return c.visit(tree, name, d)
	}); err != nil {
		return nil, fmt.Errorf("check layers: %w", err)
	}
	c.packages()
	c.designs(tree)
	slices.Sort(c.found)
	return c.found, nil
}

type checker struct {
	fset    *token.FileSet
	folders map[string]bool // folders that hold Go files
	docs    map[string]bool // those with a doc.go
	tests   map[string]bool // names of test functions
	found   []string
}

func (c *checker) report(at string, format string, args ...any) {
	c.found = append(c.found, at+": "+fmt.Sprintf(format, args...))
}

func (c *checker) visit(tree fs.FS, name string, d fs.DirEntry) error {
	if d.IsDir() {
		if strings.HasPrefix(path.Base(name), ".") && name != "." || path.Base(name) == "testdata" {
			return fs.SkipDir
		}
		if name == buildOutput {
			return fs.SkipDir
		}
		if name != "." && !strings.Contains(name, "/") && !slices.Contains(Folders, name) {
			c.report(name, "top-level folder is not one of %s", strings.Join(Folders, " "))
		}
		return nil
	}
	if path.Ext(name) != ".go" {
		return nil
	}
	src, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(c.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	folder := path.Dir(name)
	c.folders[folder] = true
	c.docs[folder] = c.docs[folder] || path.Base(name) == "doc.go"
	if slices.Contains(vagueNames, file.Name.Name) {
		c.report(name, "package name %s says nothing", file.Name.Name)
	}
	if n := strings.Count(string(src), "\n"); n > fileLinesMax {
		c.report(name, "%d lines: at most %d", n, fileLinesMax)
	}
	test := strings.HasSuffix(name, "_test.go")
	c.imports(file, folder, test)
	c.comments(file)
	c.declarations(file, test)
	c.calls(file, folder, test)
	return nil
}

func (c *checker) at(p token.Pos) string {
	pos := c.fset.Position(p)
	return fmt.Sprintf("%s:%d", pos.Filename, pos.Line)
}

func (c *checker) imports(file *ast.File, folder string, test bool) {
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser checked it
		}
		if wrong := judgeImport(folder, imported, test); wrong != "" && imported != "C" {
			c.report(c.at(spec.Pos()), "%s", wrong)
		}
		if spec.Name != nil && spec.Name.Name == "_" && !slices.Contains(blankImports, imported) {
			c.report(c.at(spec.Pos()), "blank import of %s", imported)
		}
	}
}

// mark matches the marks of unfinished work.
var mark = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

func (c *checker) comments(file *ast.File) {
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if mark.MatchString(comment.Text) {
				c.report(c.at(comment.Pos()), "unfinished: %s", mark.FindString(comment.Text))
			}
		}
	}
}

func (c *checker) declarations(file *ast.File, test bool) {
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if f.Name.Name == "init" && f.Recv == nil {
			c.report(c.at(f.Pos()), "init function")
		}
		if test && f.Recv == nil {
			c.tests[f.Name.Name] = true
		}
		if n := c.fset.Position(f.End()).Line - c.fset.Position(f.Pos()).Line + 1; n > funcLinesMax {
			c.report(c.at(f.Pos()), "%s is %d lines long: at most %d", f.Name.Name, n, funcLinesMax)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.StructType); ok && s.Fields.NumFields() > structFieldsMax {
			c.report(c.at(s.Pos()), "struct of %d fields: at most %d", s.Fields.NumFields(), structFieldsMax)
		}
		return true
	})
}

// anyCase reports whether a literal is of CBOR options that take a text key for a
// field whose name differs in case: two peers would read one message differently.
func anyCase(n *ast.CompositeLit) bool {
	of, ok := n.Type.(*ast.SelectorExpr)
	if !ok || of.Sel.Name != "DecOptions" {
		return false
	}
	return !slices.ContainsFunc(n.Elts, func(e ast.Expr) bool {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		v, ok := kv.Value.(*ast.SelectorExpr)
		return ok && v.Sel.Name == "FieldNameMatchingCaseSensitive"
	})
}

// calls finds calls and texts that do not belong where they stand.
func (c *checker) calls(file *ast.File, folder string, test bool) {
	bubble := slices.ContainsFunc(file.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"testing/synctest"` })
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch name := x.Name + "." + n.Sel.Name; {
			case name == "time.Sleep" && test && !bubble:
				c.report(c.at(n.Pos()), "time.Sleep in a test outside a synctest bubble")
			case (name == "os.Exit" || strings.HasPrefix(name, "log.Fatal")) && !test && !matchesAny(exits, folder):
				c.report(c.at(n.Pos()), "%s outside cmd and node", name)
			case (name == "cbor.Unmarshal" || name == "cbor.NewDecoder") && !test:
				c.report(c.at(n.Pos()), "%s takes text keys in any case: use a DecMode", name)
			}
		case *ast.CompositeLit:
			if anyCase(n) {
				c.report(c.at(n.Pos()), "cbor.DecOptions take text keys in any case: want FieldNameMatchingCaseSensitive")
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING && strings.HasPrefix(strings.Trim(n.Value, "\"`"), "failed "+"to ") {
				c.report(c.at(n.Pos()), "an error says what was done, not that it failed")
			}
		}
		return true
	})
}

func (c *checker) packages() {
	for folder := range c.folders {
		if !c.docs[folder] {
			c.report(folder, "no doc.go")
		}
		if _, ok := layerOf(folder); !ok {
			c.report(folder, "no row in the layer table")
		}
	}
}

// named matches the tests that a DESIGN.md names as proof.
var named = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")

// designs checks that each top folder has a DESIGN.md and that the tests it
// names exist.
func (c *checker) designs(tree fs.FS) {
	for _, folder := range Folders {
		name := folder + "/DESIGN.md"
		b, err := fs.ReadFile(tree, name)
		if err != nil {
			c.report(folder, "no DESIGN.md")
			continue
		}
		for i, text := range strings.Split(string(b), "\n") {
			for _, m := range named.FindAllStringSubmatch(text, -1) {
				if !c.tests[m[1]] {
					c.report(fmt.Sprintf("%s:%d", name, i+1), "%s does not exist", m[1])
				}
			}
		}
	}
}
