package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// bench runs the program as a person does.
func bench(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err bytes.Buffer
	code = Program{Args: args, Stdout: &out, Stderr: &err}.Run(t.Context())
	return out.String(), err.String(), code
}

func TestTheQuickestRunPrintsATableOfWhatWasMeasured(t *testing.T) {
	stdout, stderr, code := bench(t, "--targets", "1,10", "--delays", "0s", "--runs", "1", "reclaim")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	for _, want := range []string{
		"go run ./cmd/bench --targets 1,10 --delays 0s --runs 1 reclaim\n", " cores, ", "Temporal 1.", "govmomi ", "commit ",
		"\n| VMs | delay of vCenter | calls |", "\n| 1 | none | 1", "\n| 10 | none | 3", "Load of the machine: ",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the output lacks %q:\n%s", want, stdout)
		}
	}
	if !strings.Contains(stderr, "reclaim 10 VMs, delay none, by alarm true: ") {
		t.Errorf("stderr tells of no progress:\n%s", stderr)
	}
}

func TestJSONHoldsTheSameTables(t *testing.T) {
	stdout, stderr, code := bench(t, "-o", "json", "--targets", "1", "--delays", "0s", "--runs", "1", "reclaim")
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v:\n%s%s", code, err, stdout, stderr)
	}
	if len(r.Tables) != 1 || len(r.Tables[0].Rows) != 1 || r.Machine.Cores == 0 || r.Machine.Temporal == "" {
		t.Errorf("%+v", r)
	}
}

func TestWrongFlagsAreRefusedWithAReason(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":                       {[]string{"--nope"}, "flag provided but not defined: -nope"},
		"an unknown benchmark":                  {[]string{"speed"}, `there is no benchmark "speed": use idle, reclaim, `},
		"a flag behind a benchmark":             {[]string{"idle", "--quick"}, "--quick comes after a benchmark: put flags first"},
		"an unknown format":                     {[]string{"-o", "yaml"}, "-o yaml: use markdown or json"},
		"more calls than a worker makes":        {[]string{"--calls", "51"}, "--calls 51: a worker makes 1 to 50 calls at once"},
		"no number":                             {[]string{"--runs", "many"}, `--runs "many": it is no number`},
		"no run":                                {[]string{"--runs", "0"}, "--runs 0: use 1 to 100"},
		"no list":                               {[]string{"--targets", "1;2"}, `--targets "1;2": "1;2": use a list such as 1,10`},
		"no target":                             {[]string{"--targets", "1,0"}, "--targets 0: use 1 to 50000"},
		"rounds that are not full":              {[]string{"--targets", "1500"}, "--targets 1500: above 1000 use a multiple of it"},
		"a negative delay":                      {[]string{"--delays", "-1s"}, `--delays "-1s"`},
		"a delay without a unit":                {[]string{"--delays", "10/1s"}, `--delays "10/1s"`},
		"a flag that the benchmark reads not":   {[]string{"--targets", "1", "idle"}, "--targets says nothing to idle"},
		"a folder for logs that is not there":   {[]string{"--logs", "/no/such/folder"}, "--logs /no/such/folder: it is no folder; make it first"},
		"more tags than the simulator can take": {[]string{"--tags", "100001"}, "--tags 100001: use 0 to 100000"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := bench(t, c.args...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) || !strings.HasSuffix(stderr, "; see bench --help\n") {
				t.Errorf("exit code %d, want 2 and %q:\n%s%s", code, c.want, stdout, stderr)
			}
		})
	}
}

func TestHelpNamesEachBenchmarkAndFlag(t *testing.T) {
	stdout, _, code := bench(t, "--help")
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, b := range benchmarks() {
		if !strings.Contains(stdout, "\n  "+b.name+" ") {
			t.Errorf("it lacks %s:\n%s", b.name, stdout)
		}
	}
	for name := range sized {
		if !strings.Contains(stdout, "--"+name+" ") {
			t.Errorf("it lacks --%s:\n%s", name, stdout)
		}
	}
}

func TestTheBoundIsTheTimeOfAllCallsAtOnceAndOfOneTask(t *testing.T) {
	if got := (delay{call: 10 * time.Millisecond, task: time.Second}).bound(2000, 5); got != 5*time.Second {
		t.Errorf("2,000 calls of 10 ms, five at once, and a task of 1 s: %s, want 5 s", got)
	}
}
