package check

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// help returns what the receiver prints for --help, from its source: building it would cost minutes here.
func help(t *testing.T) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../cmd/kn-go-preemption/run.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	usage := file.Scope.Lookup("usage")
	if usage == nil {
		t.Fatal("the receiver's source has no constant usage")
	}
	text, err := strconv.Unquote(usage.Decl.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// variables lists the names that the help tells, with whether each is required.
func variables(t *testing.T) map[string]bool {
	t.Helper()
	_, rest, found := strings.Cut(help(t), "Environment")
	if !found {
		t.Fatal("the help tells no environment")
	}
	all := map[string]bool{}
	for line := range strings.Lines(rest) {
		for word := range strings.FieldsSeq(line) {
			bare := strings.TrimRight(word, "*,")
			if !strings.HasPrefix(line, "  ") || bare != strings.ToUpper(bare) || len(bare) < 4 {
				break
			}
			all[bare] = strings.HasSuffix(word, "*") && !strings.HasSuffix(bare, "_")
		}
	}
	return all
}

func TestTheEnvironmentIsWhatTheReceiverReads(t *testing.T) {
	known := variables(t)
	var set []string
	for _, e := range container(t).Env {
		if _, ok := known[e.Name]; !ok {
			t.Errorf("%s is nothing that the receiver reads: %v", e.Name, known)
		}
		if e.Value == "" || e.ValueFrom != nil {
			t.Errorf("%s is no plain value", e.Name)
		}
		set = append(set, e.Name)
	}
	for variable, required := range known {
		if required && !slices.Contains(set, variable) {
			t.Errorf("%s is required and not set", variable)
		}
	}
	for _, others := range []string{"PORT", "K_SINK"} {
		if slices.Contains(set, others) {
			t.Errorf("%s is Knative's to set", others)
		}
	}
}
