package action

import (
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"slices"
	"strings"
	"testing"
)

// declared lists the constants of a type in this package, from its source.
func declared(t *testing.T, kind string) (values []string) {
	t.Helper()
	for _, file := range []string{"action.go", "outcome.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for spec := range specs(parsed) {
			if of, ok := spec.Type.(*ast.Ident); ok && of.Name == kind {
				for _, v := range spec.Values {
					values = append(values, strings.Trim(v.(*ast.BasicLit).Value, `"`))
				}
			}
		}
	}
	return values
}

// specs are the constants and variables of a file.
func specs(file *ast.File) iter.Seq[*ast.ValueSpec] {
	return func(yield func(*ast.ValueSpec) bool) {
		for n := range ast.Preorder(file) {
			if spec, ok := n.(*ast.ValueSpec); ok && !yield(spec) {
				return
			}
		}
	}
}

func TestTheTableKnowsEachAction(t *testing.T) {
	names := declared(t, "Action")
	if len(names) == 0 || len(names) != len(table) {
		t.Fatalf("%d actions, and %d rows", len(names), len(table))
	}
	for _, name := range names {
		row, err := Of(Action(name))
		if err != nil {
			t.Fatal(err)
		}
		if row.Words == "" || row.Call == "" || row.Event == "" || len(row.Action.Undo()) == 0 || len(row.Privileges) == 0 || !row.Cut.Ours() {
			t.Errorf("the row of %s is not complete: %+v", name, row)
		}
		if a, ok := Would(row.Action).Would(); !ok || a != row.Action {
			t.Errorf("what would be done is not read back: %s, %v", a, ok)
		}
	}
}

func TestEachOutcomeIsKnown(t *testing.T) {
	var names []string
	for _, o := range Outcomes() {
		names = append(names, string(o))
		if _, ok := ours[o]; !ok {
			t.Errorf("nobody said whose %s is", o)
		}
		if _, ok := o.Would(); ok || o.Words() == "" {
			t.Errorf("the words of %s are %q", o, o.Words())
		}
	}
	if all := declared(t, "Outcome"); !slices.Equal(all, names) || len(ours) != len(all) {
		t.Errorf("declared are %v, listed %v", all, names)
	}
}

func TestAnUnknownActionForcesClaimsAndChangesNothing(t *testing.T) {
	const throttle = Action("throttle")
	if _, err := Of(throttle); err == nil || !strings.Contains(err.Error(), "throttle") {
		t.Errorf("its error is %v", err)
	}
	if o, forced := throttle.Cut(true); o.Ours() || forced {
		t.Errorf("it claims %s", o)
	}
	if throttle.AtOnce() || throttle.Changeable() || len(throttle.Privileges()) > 0 || len(throttle.Undo()) > 0 {
		t.Error("it does something")
	}
	if Outcome("throttled").Ours() {
		t.Error("an unknown outcome is ours")
	}
}

func TestWhatACallOfOursMakesOfAVM(t *testing.T) {
	for name, c := range map[string]struct {
		action Action
		asked  bool
		want   Outcome
		forced bool
	}{
		"a power-off":                          {PowerOff, false, PoweredOff, true},
		"a power-off after a guest was asked":  {PowerOff, true, Forced, true},
		"a guest without tools":                {ShutdownGuest, false, Forced, true},
		"a suspension":                         {Suspend, false, Suspended, false},
		"a suspension after a guest was asked": {Suspend, true, Suspended, false},
	} {
		if got, forced := c.action.Cut(c.asked); got != c.want || forced != c.forced {
			t.Errorf("%s: %s, forced %v", name, got, forced)
		}
	}
	if ByEvent("VmSuspendedEvent", false) != Suspended || ByEvent("VmPoweredOffEvent", true) != ShutDown || ByEvent("VmPoweredOffEvent", false) != PoweredOff {
		t.Error("events prove something else")
	}
}
