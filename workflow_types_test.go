package preemption_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The SDK takes a function for a workflow's type, and looks it up by the function's bare name: of two workflows whose
// functions are called alike, the one that was registered last wins. So every start, child and continue-as-new names its
// type by a string, and no two registered functions are called alike.

// typeArgument is which argument of a call is a workflow's type.
var typeArgument = map[string]int{
	"NewContinueAsNewError":            1,
	"NewContinueAsNewErrorWithOptions": 2,
	"ExecuteChildWorkflow":             1,
	"ExecuteWorkflow":                  2,
	"SignalWithStartWorkflow":          5,
	"NewWithStartWorkflowOperation":    1,
}

// exports finds the compiled packages that ours import.
type exports map[string]string

func (e exports) open(path string) (io.ReadCloser, error) {
	file, ok := e[path]
	if !ok {
		return nil, fmt.Errorf("no compiled package %q", path)
	}
	return os.Open(file)
}

type source struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	Standard                bool
}

// sources lists our packages with their files, and where the compiled ones are.
func sources(t *testing.T) (ours []source, compiled exports) {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Standard", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	compiled = exports{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p source
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ours, compiled
		} else if err != nil {
			t.Fatal(err)
		}
		compiled[p.ImportPath] = p.Export
		if p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/") {
			ours = append(ours, p)
		}
	}
}

// inspector looks through packages for workflows that are not named by a string.
type inspector struct {
	fset       *token.FileSet
	importer   types.Importer
	registered map[string][]string // name of a function → where it was registered
	looked     int                 // calls that name a type
	problems   []string
}

func newInspector(compiled exports) *inspector {
	fset := token.NewFileSet()
	return &inspector{fset: fset, importer: importer.ForCompiler(fset, "gc", compiled.open), registered: map[string][]string{}}
}

func (i *inspector) say(at ast.Node, format string, args ...any) {
	i.problems = append(i.problems, fmt.Sprintf("%s: %s", i.fset.Position(at.Pos()), fmt.Sprintf(format, args...)))
}

func (i *inspector) inspect(path string, files []*ast.File) error {
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: i.importer}
	if _, err := config.Check(path, i.fset, files, info); err != nil {
		return err
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				i.call(info, n)
			case *ast.CompositeLit:
				i.literal(info, n)
			}
			return true
		})
	}
	return nil
}

// called is the name of what is called, as it is written last.
func called(c *ast.CallExpr) string {
	switch f := ast.Unparen(c.Fun).(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func (i *inspector) call(info *types.Info, c *ast.CallExpr) {
	name := called(c)
	if at, ok := typeArgument[name]; ok && at < len(c.Args) {
		i.named(info, name, c.Args[at])
	}
	if strings.HasPrefix(name, "RegisterWorkflow") && len(c.Args) > 0 {
		i.register(info, c)
	}
}

// literal looks at what a schedule starts.
func (i *inspector) literal(info *types.Info, l *ast.CompositeLit) {
	if t := info.Types[l].Type; t == nil || !strings.HasSuffix(t.String(), "ScheduleWorkflowAction") {
		return
	}
	for _, e := range l.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Workflow" {
				i.named(info, "ScheduleWorkflowAction", kv.Value)
			}
		}
	}
}

func (i *inspector) named(info *types.Info, what string, arg ast.Expr) {
	i.looked++
	t := info.Types[arg].Type
	if basic, ok := t.Underlying().(*types.Basic); !ok || basic.Info()&types.IsString == 0 {
		i.say(arg, "%s is given a %s for the workflow's type: name the type by its constant, a string", what, t)
	}
}

func (i *inspector) register(info *types.Info, c *ast.CallExpr) {
	if _, isFunc := info.Types[c.Args[0]].Type.Underlying().(*types.Signature); !isFunc {
		return // a function of ours that registers several
	}
	name := types.ExprString(c.Args[0])
	name = name[strings.LastIndexByte(name, '.')+1:]
	where := i.fset.Position(c.Pos()).String()
	if i.registered[name] = append(i.registered[name], where); len(i.registered[name]) > 1 {
		i.say(c, "another workflow's function is called %s too (%s): the SDK takes one for the other", name, i.registered[name][0])
	}
}

func TestEveryWorkflowIsStartedByTheNameOfItsType(t *testing.T) {
	ours, compiled := sources(t)
	i := newInspector(compiled)
	for _, p := range ours {
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(i.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		if err := i.inspect(p.ImportPath, files); err != nil {
			t.Fatalf("%s: %v", p.ImportPath, err)
		}
	}
	for _, p := range i.problems {
		t.Error(p)
	}
	if i.looked < 10 || len(i.registered) < 10 {
		t.Errorf("only %d starts and %d registrations were looked at: is the list of calls still right?", i.looked, len(i.registered))
	}
}

// wrong is what the check must refuse, a problem a line that says so.
const wrong = `package wrong

import (
	"context"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const Type = "Right"

func Workflow(ctx workflow.Context) error {
	workflow.ExecuteChildWorkflow(ctx, Workflow) // wrong
	workflow.ExecuteChildWorkflow(ctx, Type)
	if ctx.Err() != nil {
		return workflow.NewContinueAsNewErrorWithOptions(ctx, workflow.ContinueAsNewErrorOptions{}, Workflow) // wrong
	}
	return workflow.NewContinueAsNewError(ctx, Workflow) // wrong
}

type desk struct{}

func (desk) Workflow(workflow.Context) error { return nil }

func start(ctx context.Context, c client.Client, of struct{ Kind string }, hidden any) {
	c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{}, Workflow) // wrong
	c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{}, of.Kind)
	c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{}, hidden) // wrong
	c.SignalWithStartWorkflow(ctx, "id", "signal", nil, client.StartWorkflowOptions{}, Workflow) // wrong
	c.NewWithStartWorkflowOperation(client.StartWorkflowOptions{}, func(workflow.Context) error { return nil }) // wrong
	_ = &client.ScheduleWorkflowAction{Workflow: Workflow} // wrong
	_ = &client.ScheduleWorkflowAction{Workflow: Type}
}

func register(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Workflow, workflow.RegisterOptions{Name: Type})
	r.RegisterWorkflowWithOptions(desk{}.Workflow, workflow.RegisterOptions{Name: "Other"}) // wrong
}
`

func TestAWorkflowNamedByItsFunctionIsRefused(t *testing.T) {
	_, compiled := sources(t)
	i := newInspector(compiled)
	f, err := parser.ParseFile(i.fset, "wrong.go", wrong, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.inspect("wrong", []*ast.File{f}); err != nil {
		t.Fatal(err)
	}
	var want []int
	for n, line := range strings.Split(wrong, "\n") {
		if strings.HasSuffix(line, "// wrong") {
			want = append(want, n+1)
		}
	}
	var got []int
	for _, p := range i.problems {
		var line, column int
		if _, err := fmt.Sscanf(p, "wrong.go:%d:%d:", &line, &column); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("refused are lines %v, want %v:\n%s", got, want, strings.Join(i.problems, "\n"))
	}
}
