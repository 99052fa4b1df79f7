package standalone

import (
	"errors"
	"net"
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
		"a speed of nothing":          {[]string{"--simulate", "--speed", "0"}, nil, []string{"--speed 0 is not within 0.1 to 60"}},
		"a speed that is too high":    {[]string{"--simulate", "--speed", "60.1"}, nil, []string{"--speed 60.1 is not within 0.1 to 60"}},
		"a speed that is no number":   {[]string{"--simulate", "--speed", "NaN"}, nil, []string{"--speed NaN is not within"}},
		"a speed of what ends":        {[]string{"--simulate", "--once", "--speed", "2"}, nil, []string{"--speed is for the demo that goes on", "without --once"}},
		"a speed of a real site":      {[]string{"--speed", "2"}, []string{"VCENTER_URL=https://vc/sdk"}, []string{"give --simulate"}},
		"knobs of what ends":          {[]string{"--simulate", "--once", "--control-port", "1"}, nil, []string{"--control-port is for the demo that goes on"}},
		"a port that is none":         {[]string{"--simulate", "--ui-port", "65536"}, nil, []string{"--ui-port", `"65536" is no port`}},
		"a port of what is left out":  {[]string{"--simulate", "--headless", "--ui-port", "8080"}, nil, []string{"--ui-port", "--headless"}},
		"two things on the same port": {[]string{"--simulate", "--ui-port", "8080", "--temporal-port", "8080"}, nil, []string{"--temporal-port and --ui-port are both 8080"}},
		"a vCenter that is none":      {nil, []string{"VCENTER_URL=ftp://vc"}, []string{"VCENTER_URL"}},
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

// A port that was asked for is not replaced: who asked will look for it there.
func TestAPortThatWasAskedForAndIsTakenIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, flag := range []string{"--temporal-port", "--ui-port", "--control-port"} {
		t.Run(flag, func(t *testing.T) {
			tr := newTrial(t, "--simulate", "--in-memory", flag, port).run(program.Failed)
			tr.complains("standalone: "+flag+": ", "127.0.0.1:"+port, "address already in use", "name another port, or leave the flag out")
		})
	}
}

func TestThePortsThatWereAskedForAreUsed(t *testing.T) {
	var d demoOptions
	usual := DefaultPorts()
	if got := d.ports(usual); got != usual {
		t.Errorf("without flags: %+v", got)
	}
	if err := errors.Join(d.temporalPort.Set("1"), d.uiPort.Set("0"), d.controlPort.Set("3")); err != nil {
		t.Fatal(err)
	}
	if got, want := d.ports(usual), (Ports{Temporal: 1, Console: usual.Console, Control: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if d.askedPorts("127.0.0.1:1", "http://127.0.0.1:5") != nil || d.askedPorts("127.0.0.1:2", "") == nil {
		t.Error("another port than the one that was asked for is taken for it, or any for none")
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
