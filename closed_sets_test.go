package preemption_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// closedSets are the types whose values are a closed set, each with its list of them.
var closedSets = map[string][]string{
	"internal/action.Action":                 texts(action.All()),
	"internal/action.Outcome":                texts(action.Outcomes()),
	"internal/api/demoapi.Knob":              texts(demoapi.Knobs()),
	"internal/api/preemptapi.IntakeState":    texts(preemptapi.IntakeStates()),
	"internal/api/preemptapi.Verdict":        texts(preemptapi.Verdicts()),
	"internal/api/preemptapi.RoundState":     texts(preemptapi.RoundStates()),
	"internal/api/preemptapi.RestoreState":   texts(preemptapi.RestoreStates()),
	"internal/api/preemptapi.RestoreOutcome": texts(preemptapi.RestoreOutcomes()),
	"internal/api/preemptapi.NameKind":       texts(preemptapi.NameKinds()),
	"internal/api/preemptapi.RoomState":      texts(preemptapi.RoomStates()),
	"internal/policy.Reason":                 texts(policy.Reasons()),
	"internal/api/remediateapi.State":        texts(remediateapi.States()),
	"internal/tell.Event":                    texts(tell.Events()),
	"internal/tell.Outcome":                  texts(tell.Outcomes()),
}

func texts[S ~string](values []S) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

func TestEachClosedSetListsAllOfItsConstants(t *testing.T) {
	for name, listed := range closedSets {
		dir, kind, _ := strings.Cut(name, ".")
		constants := declared(t, dir, kind)
		if len(constants) == 0 {
			t.Errorf("%s has no constants", name)
		}
		slices.Sort(constants)
		slices.Sort(listed)
		if !slices.Equal(constants, listed) {
			t.Errorf("%s: the constants are %q, its list has %q", name, constants, listed)
		}
	}
}

// declared returns the values of the constants of a type, from the source of its package.
func declared(t *testing.T, dir, kind string) (values []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for n := range ast.Preorder(parsed) {
			if spec, ok := n.(*ast.ValueSpec); ok {
				values = append(values, constants(t, spec, kind)...)
			}
		}
	}
	return values
}

// constants returns the values that a declaration gives to constants of a type.
func constants(t *testing.T, spec *ast.ValueSpec, kind string) (values []string) {
	t.Helper()
	if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != kind {
		return nil
	}
	for _, v := range spec.Values {
		lit, ok := v.(*ast.BasicLit)
		if !ok {
			continue
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, text)
	}
	return values
}
