package api_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
)

// sentinels returns the texts of the errors that the tree's packages declare, by where.
func sentinels(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	tree := os.DirFS("..")
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		b, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, b, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			ast.Inspect(g, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) != 1 {
					return true
				}
				if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "New" {
					return true
				}
				if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						found[fmt.Sprint(fset.Position(n.Pos()))] = text
						return true
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestWordsNameNoPackages: of every sentinel of the tree the text for people is without
// the package's name, alone, wrapped and said twice; and it is the same error.
func TestWordsNameNoPackages(t *testing.T) {
	all := sentinels(t)
	if len(all) < 50 {
		t.Fatalf("%d sentinels found", len(all))
	}
	for at, text := range all {
		name, rest, cut := strings.Cut(text, ": ")
		if !cut || name != path.Base(path.Dir(at)) {
			rest = text
		}
		err := errors.New(text)
		for _, row := range []struct {
			err  error
			want string
		}{
			{err, rest},
			{fmt.Errorf("%w: %w", api.ErrRejected, err), "rejected: " + rest},
			{fmt.Errorf("%w: %w: %w", api.ErrRejected, err, err), "rejected: " + rest},
			{fmt.Errorf("open x (%w)", err), "open x (" + rest + ")"},
		} {
			if got := api.Words(row.err); got != row.want && text != api.ErrRejected.Error() {
				t.Errorf("%s: %q, want %q", at, got, row.want)
			}
		}
	}
}

// TestWordsKeepWhatIsQuoted: a value of somebody's is left as it is.
func TestWordsKeepWhatIsQuoted(t *testing.T) {
	for _, text := range []string{`title "store: full" is taken`, "the event: it is open", "12:00: 12:30", "a note saying catalog: x"} {
		if got := api.Words(errors.New(text)); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
}
