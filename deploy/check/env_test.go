package check

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// help returns what a program prints for --help, from its source: building it would cost minutes here.
func help(t *testing.T, program string) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../cmd/"+program+"/run.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	usage := file.Scope.Lookup("usage")
	if usage == nil {
		t.Fatalf("the source of %s has no constant usage", program)
	}
	text, err := strconv.Unquote(usage.Decl.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// variables lists the names that the help tells, with whether each is required.
func variables(t *testing.T, program string) map[string]bool {
	t.Helper()
	_, rest, found := strings.Cut(help(t, program), "Environment")
	if !found {
		t.Fatal("the help tells no environment")
	}
	all := map[string]bool{}
	for line := range strings.Lines(rest) {
		for word := range strings.FieldsSeq(line) {
			bare := strings.TrimRight(word, "*,")
			bare, _, _ = strings.Cut(bare, "=")
			if !strings.HasPrefix(line, "  ") || bare != strings.ToUpper(bare) || len(bare) < 4 {
				break
			}
			all[bare] = strings.HasSuffix(word, "*") && !strings.HasSuffix(bare, "_")
		}
	}
	if strings.Contains(help(t, program), "$PREEMPTION_CONFIG") {
		all["PREEMPTION_CONFIG"] = false
	}
	return all
}

// read lists the names of variables that stand in the source of a package, where it reads them.
func read(t *testing.T, folder string) (all []string) {
	t.Helper()
	files, err := filepath.Glob("../../internal/" + folder + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil && name.MatchString(text) {
					all = append(all, text)
				}
			}
			return true
		})
	}
	return all
}

// set checks that the variables of a container are plain values of names that are read, and returns the names.
func set(t *testing.T, c corev1.Container, reads ...string) (names []string) {
	t.Helper()
	for _, e := range c.Env {
		if !slices.Contains(reads, e.Name) {
			t.Errorf("%s: %s is nothing that the program reads", c.Name, e.Name)
		}
		if e.Value == "" || e.ValueFrom != nil {
			t.Errorf("%s: %s is no plain value", c.Name, e.Name)
		}
		names = append(names, e.Name)
	}
	if len(c.EnvFrom) > 0 {
		t.Errorf("%s: variables come from elsewhere: %v", c.Name, c.EnvFrom)
	}
	return names
}

func TestTheEnvironmentIsWhatTheProgramsRead(t *testing.T) {
	for program, folder := range map[string]string{"worker": base, receiver: knative} {
		known := variables(t, program)
		names := set(t, theContainer(t, folder), read(t, "config")...)
		for _, name := range names {
			if _, told := known[name]; !told {
				t.Errorf("%s: its help does not tell of %s: %v", program, name, known)
			}
		}
		for variable, required := range known {
			if required && !slices.Contains(names, variable) {
				t.Errorf("%s: %s is required and not set", program, variable)
			}
		}
		for _, others := range []string{"PORT", "K_SINK"} {
			if slices.Contains(names, others) {
				t.Errorf("%s: %s is Knative's to set", program, others)
			}
		}
	}
	// USER and HOME are read by Go's os/user, for Temporal's server: without them it does not start where nobody knows
	// the user.
	names := set(t, theContainer(t, standalone), append(read(t, "standalone"), "USER", "HOME")...)
	for _, name := range []string{"VCENTER_URL", "USER", "HOME"} {
		if !slices.Contains(names, name) {
			t.Errorf("the standalone has no %s", name)
		}
	}
}

// The systemd units' example of an environment names what the programs read, too.
func TestTheEnvironmentFilesNameWhatTheProgramsRead(t *testing.T) {
	files, err := filepath.Glob("../systemd/*.env.example")
	if err != nil || len(files) == 0 {
		t.Fatal("no environment files: ", err)
	}
	known := append(read(t, "config"), "TEMPORAL_TLS_CA_PATH", "TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_KEY_PATH", "TEMPORAL_API_KEY", "OTEL_EXPORTER_OTLP_ENDPOINT")
	assignment := regexp.MustCompile(`^#?([A-Z][A-Z0-9_]+)=`)
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if m := assignment.FindStringSubmatch(line); m != nil && !slices.Contains(known, m[1]) {
				t.Errorf("%s: %s is nothing that the programs read", path, m[1])
			}
		}
	}
}
