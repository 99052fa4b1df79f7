package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const twoPolicies = `policies:
  default:
    target: {cpu: 75}
    budgets: [{group: "*", minAvailable: 50%}]
  careful: {mode: observe, maxVMs: 1}
`

func TestPolicyCheckTakesAValidFile(t *testing.T) {
	file := configFile(t, twoPolicies)
	preemptctl(t, cli.Options{}, "policy", "check", file).want(t, 0, "stdout", "valid   yes", "careful   ", "default   ")
	got := preemptctl(t, cli.Options{}, "policy", "check", file, "-o", "json")
	got.want(t, 0, "stdout", `"valid": true`)
	type checked struct {
		Policies []struct{ Name, Hash string }
	}
	if c := decode[checked](t, got.stdout); len(c.Policies) != 2 || c.Policies[0].Name != "careful" || len(c.Policies[0].Hash) != 12 {
		t.Errorf("got %+v", c)
	}
}

func TestPolicyCheckNamesEveryProblemAndExitsWith1(t *testing.T) {
	file := configFile(t, "policies:\n  default:\n    maxVM: 3\n    target: {cpu: 175}\n")
	lines := []string{
		file + ":3: policies.default.maxVM: unknown key; allowed are budgets, ",
		file + ":4: policies.default.target.cpu: 175 is not within 1 to 100",
	}
	got := preemptctl(t, cli.Options{}, "policy", "check", file)
	got.want(t, 1, "stdout", lines...)
	got.want(t, 1, "stderr", "Error: "+file+" has 2 problems")
	preemptctl(t, cli.Options{}, "policy", "check", file, "-o", "json").want(t, 1, "stdout", `"valid": false`, lines[1])
	preemptctl(t, cli.Options{}, "policy", "check", file, "-o", "yaml").want(t, 1, "stdout", "valid: false")
	preemptctl(t, cli.Options{}, "policy", "check", file, "--json").want(t, 1, "stdout", `"msg":"checked"`)
	show := preemptctl(t, cli.Options{}, "policy", "show", file)
	show.want(t, 1, "stderr", lines...)
	if show.stdout != "" {
		t.Errorf("a file that is not valid has no effective policy:\n%s", show.stdout)
	}
}

func TestPolicyShowSpellsTheDefaultsOut(t *testing.T) {
	got := preemptctl(t, cli.Options{}, "policy", "show")
	got.want(t, 0, "stdout", policy.Default().Hash(), "maxVMs", "order.defaultPriority", "restore.enabled")
	if strings.Contains(got.stdout, "target.") {
		t.Errorf("there is no target by default:\n%s", got.stdout)
	}
}

func TestPolicyShowTakesTheFileAndTheNameThatAreMeant(t *testing.T) {
	file := configFile(t, twoPolicies)
	other := configFile(t, "policies: {default: {maxVMs: 7}}")
	env := environment{"PREEMPTION_CONFIG": other}
	type shown struct {
		File, Name, Hash string
		Policy           policy.Policy
		Others           []string
	}
	for name, tc := range map[string]struct {
		args []string
		want func(shown) bool
	}{
		"the file of the environment": {nil, func(s shown) bool { return s.File == other && s.Policy.MaxVMs == 7 }},
		"a file": {[]string{file}, func(s shown) bool {
			return s.Name == "default" && s.Policy.Target.IfShort == "partial" && s.Others[0] == "careful"
		}},
		"a policy of a file": {[]string{file, "careful"}, func(s shown) bool { return s.Policy.Mode == "observe" && s.Policy.MaxVMs == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			got := preemptctl(t, cli.Options{Env: env}, append([]string{"policy", "show", "-o", "json"}, tc.args...)...)
			got.want(t, 0, "stdout", "hash")
			if s := decode[shown](t, got.stdout); !tc.want(s) || s.Policy.Hash() != s.Hash {
				t.Errorf("got %+v", s)
			}
		})
	}
	preemptctl(t, cli.Options{}, "policy", "show", file).want(t, 0, "stdout", "others   careful", "{group: *, minAvailable: 50%}", "target.margin")
}

func TestPolicyCommandsSayWhatIsNotThere(t *testing.T) {
	file := configFile(t, twoPolicies)
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no file to check":      {[]string{"policy", "check"}, 2, "policy check takes one file, got 0 arguments"},
		"two files to check":    {[]string{"policy", "check", "a", "b"}, 2, "takes one file, got 2 arguments"},
		"three things to show":  {[]string{"policy", "show", "a", "b", "c"}, 2, "takes at most a file and the name of a policy"},
		"a missing file":        {[]string{"policy", "check", "/no/such/file"}, 3, "no such file: /no/such/file"},
		"a missing file, shown": {[]string{"policy", "show", "/no/such/file"}, 3, "no such file"},
		"a folder":              {[]string{"policy", "check", filepath.Dir(file)}, 1, "is a directory"},
		"a missing policy":      {[]string{"policy", "show", file, "bold"}, 3, `no policy "bold" in ` + file + "; there are careful, default"},
		"no subcommand":         {[]string{"policy"}, 2, "policy needs a subcommand"},
	} {
		t.Run(name, func(t *testing.T) {
			preemptctl(t, cli.Options{}, tc.args...).want(t, tc.code, "stderr", "Error: ", tc.says)
		})
	}
}
