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
	"internal/alarm":      {"internal/shown"},
	"internal/action":     {},
	"internal/vsphere":    {},
	"internal/clock":      {},
	"internal/cron":       {},
	"internal/policy":     {"internal/vsphere", "internal/clock", "internal/cron", "internal/action"},
	"internal/workflowid": {},
	"internal/placement":  {"internal/vsphere", "internal/clock", "internal/policy", "internal/workflowid"},
	"internal/embedded":   {},
	"internal/simulation": {"internal/shown"},
	"internal/tally":      {},
	"internal/shown":      {},
	"internal/flagwords":  {},
	"internal/telemetry":  {"internal/action", "internal/api/preemptapi", "internal/api/remediateapi", "internal/policy", "internal/shown"},
	"internal/tracing":    {"internal/shown"},
	"internal/ledger":     {"internal/placement", "internal/workflowid"},
	"internal/notify":     {"internal/shown"},
	"internal/tell":       {"", "internal/shown"},
	"internal/channel":    {"internal/api/doctorapi", "internal/shown", "internal/tell"},
	"internal/delivery":   {"internal/policy", "internal/tally", "internal/tell", "internal/vsphere"},
	"internal/vcenter":    {"internal/tracing", "internal/action", "internal/vsphere", "internal/clock", "internal/policy", "internal/placement", "internal/shown"},
	"internal/config":     {"internal/clock", "", "internal/policy", "internal/placement", "internal/shown", "internal/tell", "internal/trigger"},
	"internal/trigger":    {"internal/tracing", "internal/vsphere", "", "internal/alarm", "internal/placement", "internal/workflowid"},
	"internal/bearer":     {},
	"internal/receiver":   {"internal/tracing", "internal/alarm", "internal/bearer", "internal/shown", "internal/trigger"},
	"internal/watch": {
		"internal/vsphere", "internal/alarm", "internal/trigger", "internal/vcenter", "internal/shown", "internal/api/watchapi", "internal/clock",
	},
	"internal/api/watchapi": {"internal/workflowid"},
	"internal/preempt": {
		"", "internal/action", "internal/alarm", "internal/api/preemptapi", "internal/clock", "internal/ledger", "internal/notify", "internal/policy",
		"internal/shown", "internal/step", "internal/tracing", "internal/vcenter", "internal/vsphere",
	},
	"internal/preempt/vcentertest": {"internal/action", "internal/policy", "internal/vcenter", "internal/vsphere"}, // for tests alone
	"internal/preempt/payload":     {"internal/policy"},
	"internal/preempt/intake": {
		"", "internal/alarm", "internal/api/preemptapi", "internal/clock", "internal/delivery", "internal/ledger", "internal/policy", "internal/preempt",
		"internal/preempt/round", "internal/tell",
		"internal/shown", "internal/tally", "internal/vcenter", "internal/vsphere", "internal/workflowid",
	},
	"internal/preempt/round": {
		"", "internal/action", "internal/alarm", "internal/api/preemptapi", "internal/clock", "internal/delivery", "internal/ledger", "internal/policy", "internal/preempt",
		"internal/preempt/payload", "internal/shown", "internal/step", "internal/tell", "internal/tally", "internal/vcenter", "internal/vsphere",
	},
	"internal/preempt/makeroom": {
		"", "internal/action", "internal/api/preemptapi", "internal/clock", "internal/ledger", "internal/policy", "internal/preempt",
		"internal/delivery", "internal/preempt/intake", "internal/preempt/round", "internal/step", "internal/tally", "internal/tell", "internal/vcenter", "internal/vsphere", "internal/workflowid",
	},
	"internal/preempt/restore": {
		"", "internal/api/preemptapi", "internal/clock", "internal/delivery", "internal/ledger", "internal/policy", "internal/preempt", "internal/preempt/payload",
		"internal/shown", "internal/step", "internal/tell", "internal/tally", "internal/vcenter", "internal/vsphere",
	},
	"internal/health": {
		"", "internal/api/doctorapi", "internal/ledger", "internal/api/preemptapi", "internal/api/remediateapi", "internal/placement", "internal/shown", "internal/api/watchapi",
	},
	"internal/record": {
		"", "internal/action", "internal/api/preemptapi", "internal/api/remediateapi", "internal/api/watchapi", "internal/health", "internal/ledger",
		"internal/api/doctorapi", "internal/placement", "internal/policy", "internal/vsphere",
	},
	"internal/judge":   {"", "internal/api/preemptapi", "internal/api/remediateapi", "internal/policy", "internal/record", "internal/vsphere"},
	"internal/console": {"", "internal/api/doctorapi", "internal/health", "internal/policy", "internal/record", "internal/shown", "internal/judge", "internal/vsphere"},
	"internal/repair": {
		"internal/vsphere", "internal/action", "internal/clock", "", "internal/health", "internal/ledger", "internal/policy", "internal/preempt", "internal/preempt/intake", "internal/preempt/round", "internal/api/preemptapi", "internal/step", "internal/vcenter",
		"internal/watch", "internal/api/watchapi",
	},
	"internal/step":           {"internal/clock", "internal/vcenter"},
	"internal/api/preemptapi": {"internal/vsphere", "internal/clock", "internal/action", "", "internal/policy", "internal/workflowid"},
	"internal/remediate": {
		"internal/vsphere", "internal/clock", "internal/placement", "internal/step", "internal/vcenter", "internal/notify", "internal/ledger", "internal/api/remediateapi",
		"internal/delivery", "internal/shown", "internal/tally", "internal/tell",
	},
	"internal/api/remediateapi": {"internal/vsphere", "internal/placement"},
	"internal/cli": {
		"internal/bearer", "internal/console", "internal/record", "internal/program", "internal/vsphere", "internal/action", "internal/clock", "internal/cron", "", "internal/config", "internal/api/demoapi", "internal/api/doctorapi", "internal/health", "internal/ledger", "internal/policy", "internal/placement", "internal/api/preemptapi", "internal/api/remediateapi",
		"internal/shown", "internal/tell", "internal/judge", "internal/api/watchapi", "internal/flagwords", "internal/workflowid",
	},
	"internal/doctor": {
		"internal/vsphere", "internal/action", "", "internal/alarm", "internal/api/doctorapi", "internal/policy", "internal/placement", "internal/shown", "internal/step", "internal/trigger", "internal/vcenter",
	},
	"internal/api/doctorapi": {},
	"internal/api/demoapi":   {"internal/clock"},
	"internal/e2e":           {},
	"internal/e2e/events":    {},
	"internal/e2e/faults":    {},
	"internal/e2e/remedies":  {},
	"internal/e2e/console":   {},
	"internal/e2e/sitetest": {
		"", "internal/action", "internal/alarm", "internal/api/preemptapi", "internal/api/remediateapi", "internal/api/watchapi", "internal/cli", "internal/clock",
		"internal/embedded", "internal/ledger", "internal/notify", "internal/policy", "internal/preempt", "internal/receiver", "internal/remediate", "internal/placement",
		"internal/channel", "internal/simulation", "internal/takeover", "internal/tell", "internal/tracing/otlp", "internal/trigger", "internal/vcenter", "internal/vsphere", "internal/watch", "internal/worker",
	},
	"internal/chaos":       {},
	"internal/released":    {},
	"internal/bench":       {"", "internal/api/preemptapi", "internal/clock", "internal/embedded", "internal/ledger", "internal/program", "internal/released", "internal/simulation"},
	"cmd/bench":            {"internal/bench"},
	"internal/takeover":    {"", "internal/ledger", "internal/preempt/intake", "internal/preempt/round", "internal/api/preemptapi", "internal/shown"},
	"cmd/preemptctl":       {"internal/cli"},
	"cmd/kn-go-preemption": {"internal/bearer", "internal/program", "internal/clock", "internal/config", "internal/receiver", "internal/telemetry", "internal/tracing/otlp", "internal/tracing/workflows", "internal/trigger"},
	"cmd/worker":           {"internal/channel", "internal/console", "internal/program", "internal/clock", "internal/config", "internal/health", "internal/notify", "internal/preempt", "internal/telemetry", "internal/tracing/otlp", "internal/vcenter", "internal/watch", "internal/worker"},
	"internal/program":     {"internal/config"},
	"internal/worker": {
		"internal/bearer", "internal/channel", "internal/console", "internal/delivery", "internal/record",
		"internal/clock", "internal/config", "internal/doctor", "internal/health", "internal/ledger", "internal/notify", "internal/policy", "internal/preempt",
		"internal/preempt/intake", "internal/preempt/makeroom", "internal/preempt/restore", "internal/preempt/round", "internal/remediate",
		"internal/repair", "internal/takeover", "internal/telemetry", "internal/trigger", "internal/vcenter", "internal/watch",
		"", "internal/api/preemptapi", "internal/api/watchapi", "internal/placement", "internal/tracing", "internal/tracing/workflows",
	},
	"cmd/standalone": {"internal/standalone", "internal/telemetry"},
	"internal/standalone": {
		"internal/flagwords", "internal/bearer", "internal/program", "internal/vsphere", "internal/workflowid", "internal/clock", "", "internal/alarm", "internal/config", "internal/embedded", "internal/health", "internal/ledger", "internal/notify", "internal/policy",
		"internal/preempt", "internal/api/demoapi", "internal/api/preemptapi", "internal/channel", "internal/receiver", "internal/shown", "internal/simulation", "internal/telemetry", "internal/tracing/otlp",
		"internal/trigger", "internal/vcenter", "internal/watch", "internal/worker",
	},
	"internal/program/programtest": {},
	"internal/tracing/workflows":   {"internal/tracing"},
	"internal/tracing/otlp":        {"internal/shown", "internal/tracing", "internal/tracing/workflows"},
}

// heavy is what only standalone, bench and tests may link.
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
		var imported []string
		for _, imp := range p.Imports {
			rest, ours := strings.CutPrefix(imp, module)
			if rest = strings.TrimPrefix(rest, "/"); ours {
				imported = append(imported, rest)
			}
			if ours && !slices.Contains(allowed, rest) {
				t.Errorf("%q imports %q, which its arrows do not allow", name, rest)
			}
		}
		for _, arrow := range allowed { // an arrow that is not used says that there is a need where there is none
			if !slices.Contains(imported, arrow) {
				t.Errorf("%q may import %q and does not: take the arrow out", name, arrow)
			}
		}
	}
}

func TestPurePackagesKnowNoVendor(t *testing.T) {
	all := list(t)
	for _, name := range []string{"internal/action", "internal/vsphere", "internal/cron", "internal/policy", "internal/placement", "internal/alarm"} {
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
		may := slices.Contains([]string{"cmd/standalone", "internal/standalone", "internal/embedded", "internal/simulation", "internal/e2e/sitetest", "cmd/bench", "internal/bench"}, name)
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
