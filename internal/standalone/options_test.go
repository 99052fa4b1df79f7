package standalone

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
)

func TestWrongUsage(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("limits:\n  vcenterCals: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args, env []string
		want      []string
	}{
		"no vCenter":               {nil, nil, []string{"VCENTER_URL", "--simulate"}},
		"once without a scenario":  {[]string{"--once"}, []string{"VCENTER_URL=https://vc/sdk"}, []string{"--once", "--simulate"}},
		"an unknown flag":          {[]string{"--simulat"}, nil, []string{"--simulat", "--help"}},
		"an argument":              {[]string{"--simulate", "now"}, nil, []string{"now", "--help"}},
		"a file that is not there": {[]string{"--simulate", "-f", "/no/such.yaml"}, nil, []string{"/no/such.yaml"}},
		"an unknown key":           {[]string{"--simulate", "--config", bad}, nil, []string{"bad.yaml:2", "vcenterCals"}},
		"bad values of the environment, both told": {
			[]string{"--simulate"}, []string{"DEBUG=perhaps", "LOG_FORMAT=xml"}, []string{"DEBUG", "LOG_FORMAT"},
		},
		"a vCenter that is none": {nil, []string{"VCENTER_URL=ftp://vc"}, []string{"VCENTER_URL"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tr := newTrial(t, tc.args...).env(tc.env...).run(program.Usage)
			tr.complains(append(tc.want, "standalone: ")...)
			if out := tr.out.String(); out != "" {
				t.Errorf("stdout: %s", out)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	newTrial(t, "--help").run(program.Done).says("Exit status", "--config", "--data", "--headless", "--in-memory", "--once", "--simulate")
	newTrial(t, "--version").run(program.Done).says(`^standalone v0\.0\.0-test$`)
}

func TestTheDataFolder(t *testing.T) {
	tests := map[string]struct {
		env      config.Env
		asked    string
		simulate bool
		want     string
	}{
		"the user's":                    {config.Env{"HOME": "/home/u"}, "", false, "/home/u/.local/share/vsphere-preemption"},
		"XDG":                           {config.Env{"HOME": "/home/u", "XDG_DATA_HOME": "/xdg"}, "", false, "/xdg/vsphere-preemption"},
		"a relative XDG is no XDG":      {config.Env{"HOME": "/home/u", "XDG_DATA_HOME": "xdg"}, "", false, "/home/u/.local/share/vsphere-preemption"},
		"as asked":                      {config.Env{"HOME": "/home/u"}, "/data", false, "/data"},
		"a simulation keeps its own":    {config.Env{"HOME": "/home/u"}, "", true, "/home/u/.local/share/vsphere-preemption/simulation"},
		"a simulation below what asked": {config.Env{}, "/data", true, "/data/simulation"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := dataFolder(tc.env, tc.asked, tc.simulate)
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestASimulationIgnoresTheRealVCentersSettings(t *testing.T) {
	p := newTrial(t, "--simulate").env("VCENTER_URL=https://vc.example.com/sdk", "VCENTER_CA_FILE=/no/such/file", "VCENTER_SECRET_PATH=/etc/real").program
	o, _, err := p.options()
	if err != nil {
		t.Fatal(err)
	}
	if o.set.VCenter.URL == "https://vc.example.com/sdk" || o.set.VCenter.SecretPath == "/etc/real" {
		t.Errorf("the simulation would use %+v", o.set.VCenter)
	}
}
