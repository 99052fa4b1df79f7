package preemption_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The sizes that we hold to.
const (
	mostFunctionLines = 60
	medianLines       = 10
	mostFileLines     = 400
	mostComplexity    = 15
)

// finding is one place that breaks a size, and what is said about it.
type finding struct {
	path string
	line int
	text string
}

func TestFunctionsAndFilesStayShortAndExportsAreDocumented(t *testing.T) {
	var found []finding
	var lengths []int
	for _, path := range goFiles(t) {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if ast.IsGenerated(file) {
			continue
		}
		if n := fset.File(file.FileStart).LineCount(); n > mostFileLines {
			found = append(found, finding{path, 1, fmt.Sprintf("the file has %d lines, more than %d", n, mostFileLines)})
		}
		if !strings.HasSuffix(path, "_test.go") {
			long, lines := measured(fset, file)
			found = slices.Concat(found, long, undocumented(fset, file))
			lengths = append(lengths, lines...)
		}
	}
	for _, f := range found {
		t.Errorf("%s:%d: %s", f.path, f.line, f.text)
	}
	slices.Sort(lengths)
	t.Logf("%d functions, of %d lines in the median, at most %d", len(lengths), lengths[len(lengths)/2], lengths[len(lengths)-1])
	if median := lengths[len(lengths)/2]; median > medianLines {
		t.Errorf("the median of %d functions is %d lines, more than %d", len(lengths), median, medianLines)
	}
}

// measured returns the functions of a file that are too long or have too many branches, and the lines of each.
func measured(fset *token.FileSet, file *ast.File) (found []finding, lengths []int) {
	for _, f := range functions(file) {
		at := fset.Position(f.Pos())
		lines := fset.Position(f.End()).Line - at.Line + 1
		lengths = append(lengths, lines)
		if lines > mostFunctionLines {
			found = append(found, finding{at.Filename, at.Line, fmt.Sprintf("%s has %d lines, more than %d", f.Name.Name, lines, mostFunctionLines)})
		}
		if n := complexity(f.Body); n > mostComplexity {
			text := fmt.Sprintf("%s has a cyclomatic complexity of %d, more than %d", f.Name.Name, n, mostComplexity)
			found = append(found, finding{at.Filename, at.Line, text})
		}
	}
	return found, lengths
}

// goFiles returns the Go files of this module.
func goFiles(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path = filepath.ToSlash(path)
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "tools" || path != "." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// functions returns the declared functions of a file that have a body.
func functions(file *ast.File) []*ast.FuncDecl {
	var all []*ast.FuncDecl
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			all = append(all, f)
		}
	}
	return all
}

// complexity counts the paths through a function: one, and one more for each branch, case, loop, && and ||.
// A function literal counts with the function that it is written in.
func complexity(body ast.Node) int {
	n := 1
	ast.Inspect(body, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if x.List != nil {
				n++
			}
		case *ast.CommClause:
			if x.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if x.Op == token.LAND || x.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// undocumented returns the exported identifiers without a comment: functions, methods of exported types, types,
// and constants and variables, for which the comment of their group will do.
func undocumented(fset *token.FileSet, file *ast.File) []finding {
	var found []finding
	missing := func(name *ast.Ident) {
		if at := fset.Position(name.Pos()); name.IsExported() {
			found = append(found, finding{at.Filename, at.Line, name.Name + " is exported and has no comment"})
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && receiverIsExported(d) {
				missing(d.Name)
			}
		case *ast.GenDecl:
			for _, name := range undocumentedSpecs(d) {
				missing(name)
			}
		}
	}
	return found
}

// receiverIsExported reports whether a function has no receiver, or one of an exported type.
func receiverIsExported(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	typ := f.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// undocumentedSpecs returns the names that a declaration introduces without a comment on it or on its group.
func undocumentedSpecs(d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if d.Doc == nil && s.Doc == nil && s.Comment == nil {
				names = append(names, s.Name)
			}
		case *ast.ValueSpec:
			if d.Doc == nil && s.Doc == nil && s.Comment == nil {
				names = append(names, s.Names...)
			}
		}
	}
	return names
}
