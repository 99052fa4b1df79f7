package preemption_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vsphere-preemption/vsphere-preemption"

// arrows says which of our packages each package may import, directly. Whoever is not named here may not
// exist: a new package states its arrows first.
var arrows = map[string][]string{
	"":                    {},
	"internal/alarm":      {},
	"internal/policy":     {},
	"internal/remedy":     {"internal/policy"},
	"internal/embedded":   {},
	"internal/simulation": {},
	"internal/telemetry":  {},
	"internal/ledger":     {"internal/policy", "internal/remedy"},
	"internal/notify":     {""},
	"internal/vcenter":    {"internal/policy", "internal/remedy"},
	"internal/config":     {"", "internal/policy", "internal/remedy", "internal/trigger"},
	"internal/trigger":    {"", "internal/alarm", "internal/policy", "internal/remedy"},
	"internal/receiver":   {"internal/alarm", "internal/trigger"},
	"internal/watch": {
		"internal/alarm", "internal/trigger", "internal/vcenter", "internal/policy", "internal/watch/contract",
	},
	"internal/watch/contract": {},
	"internal/preempt": {
		"", "internal/alarm", "internal/policy", "internal/step", "internal/vcenter", "internal/notify", "internal/ledger", "internal/preempt/contract",
	},
	"internal/step":             {"internal/vcenter"},
	"internal/preempt/contract": {"", "internal/policy"},
	"internal/remediate": {
		"", "internal/policy", "internal/remedy", "internal/step", "internal/vcenter", "internal/notify", "internal/ledger", "internal/remediate/contract",
	},
	"internal/remediate/contract": {"internal/policy", "internal/remedy"},
	"internal/cli": {
		"", "internal/config", "internal/doctor/contract", "internal/policy", "internal/remedy", "internal/preempt/contract", "internal/remediate/contract",
		"internal/watch/contract",
	},
	"internal/doctor": {
		"", "internal/alarm", "internal/doctor/contract", "internal/policy", "internal/remedy", "internal/step", "internal/trigger", "internal/vcenter",
	},
	"internal/doctor/contract": {},
	"internal/e2e":             {},
	"cmd/preemptctl":           {"internal/cli"},
	"cmd/kn-go-preemption":     {"internal/config", "internal/receiver", "internal/telemetry", "internal/trigger"},
	"cmd/worker":               {"", "internal/config", "internal/doctor", "internal/notify", "internal/policy", "internal/preempt", "internal/remediate", "internal/telemetry", "internal/vcenter", "internal/watch"},
	"cmd/standalone": {
		"", "internal/config", "internal/embedded", "internal/notify", "internal/policy", "internal/preempt",
		"internal/remediate", "internal/simulation", "internal/standalone", "internal/telemetry", "internal/vcenter",
	},
	"internal/standalone": {
		"", "internal/alarm", "internal/config", "internal/doctor", "internal/embedded", "internal/ledger", "internal/notify", "internal/policy",
		"internal/preempt", "internal/preempt/contract", "internal/receiver", "internal/remediate", "internal/simulation", "internal/telemetry", "internal/trigger", "internal/vcenter", "internal/watch",
	},
}

// heavy is what only standalone and tests may link.
var heavy = []string{"go.temporal.io/server", "github.com/temporalio/ui-server", "github.com/vmware/govmomi/simulator", "modernc.org/sqlite"}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) map[string]listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]listed{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")] = p
	}
}

func TestImportsFollowTheArrows(t *testing.T) {
	for name, p := range list(t) {
		allowed, known := arrows[name]
		if !known {
			t.Errorf("package %q has no arrows: say here what it may import", name)
			continue
		}
		for _, imp := range p.Imports {
			rest, ours := strings.CutPrefix(imp, module)
			if rest = strings.TrimPrefix(rest, "/"); ours && !slices.Contains(allowed, rest) {
				t.Errorf("%q imports %q, which its arrows do not allow", name, rest)
			}
		}
	}
}

func TestPurePackagesKnowNoVendor(t *testing.T) {
	all := list(t)
	for _, name := range []string{"internal/policy", "internal/alarm"} {
		for _, dep := range all[name].Deps {
			for _, vendor := range []string{"go.temporal.io", "github.com/vmware/govmomi", "github.com/cloudevents"} {
				if strings.HasPrefix(dep, vendor) {
					t.Errorf("%s depends on %s", name, dep)
				}
			}
		}
	}
}

func TestTheServerAndTheSimulatorStayOutOfTheOtherPrograms(t *testing.T) {
	all := list(t)
	for name, p := range all {
		may := slices.Contains([]string{"cmd/standalone", "internal/standalone", "internal/embedded", "internal/simulation"}, name)
		for _, dep := range p.Deps {
			for _, h := range heavy {
				if !may && strings.HasPrefix(dep, h) {
					t.Errorf("%q links %s", name, dep)
				}
			}
		}
	}
	for _, dep := range all["cmd/preemptctl"].Deps {
		if strings.HasPrefix(dep, "github.com/vmware/govmomi") {
			t.Errorf("preemptctl links %s: it speaks to Temporal alone", dep)
		}
	}
	for _, program := range []string{"cmd/worker", "cmd/preemptctl", "cmd/kn-go-preemption", "cmd/standalone"} {
		if _, ok := all[program]; !ok {
			t.Errorf("%s is missing", program)
		}
	}
}
