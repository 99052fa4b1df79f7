package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// minimal is the least a worker needs.
func minimal() Env {
	return Env{
		"TEMPORAL_URL": "temporal:7233", "TEMPORAL_NAMESPACE": "ns", "TEMPORAL_TASKQUEUE": "queue",
		"VCENTER_URL": "https://vcenter.example.com/sdk",
	}
}

func with(pairs ...string) Env {
	env := minimal()
	for i := 0; i < len(pairs); i += 2 {
		env[pairs[i]] = pairs[i+1]
	}
	return env
}

// noProfile keeps the machine's own Temporal profile out of a test.
func noProfile(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadWorkerWithTheLeastItNeeds(t *testing.T) {
	noProfile(t)
	w, err := LoadWorker(minimal(), "")
	if err != nil {
		t.Fatal(err)
	}
	if w.Temporal.Options.HostPort != "temporal:7233" || w.Temporal.Options.Namespace != "ns" || w.Temporal.TaskQueue != "queue" {
		t.Errorf("Temporal: %+v", w.Temporal)
	}
	if w.Temporal.Options.ConnectionOptions.TLS != nil || w.Temporal.Options.Credentials != nil {
		t.Error("Temporal is spoken to with TLS or credentials that nobody asked for")
	}
	if want := (VCenter{URL: "https://vcenter.example.com/sdk", SecretPath: "/var/bindings/vsphere"}); w.VCenter != want {
		t.Errorf("vCenter: %+v", w.VCenter)
	}
	if want := (Log{Format: "json"}); w.Log != want {
		t.Errorf("log: %+v", w.Log)
	}
	if want := (HTTP{Addr: ":8080"}); w.HTTP != want {
		t.Errorf("HTTP: %+v", w.HTTP)
	}
	if !reflect.DeepEqual(w.File, DefaultFile()) {
		t.Errorf("file: %+v", w.File)
	}
}

func TestLoadWorkerTakesWhatIsSet(t *testing.T) {
	noProfile(t)
	ca := write(t, "ca.pem", "x")
	for name, tc := range map[string]struct {
		env   Env
		check func(Worker) bool
	}{
		"TEMPORAL_ADDRESS suffices": {
			with("TEMPORAL_URL", "", "TEMPORAL_ADDRESS", "other:7233"),
			func(w Worker) bool { return w.Temporal.Options.HostPort == "other:7233" },
		},
		"TEMPORAL_URL beats TEMPORAL_ADDRESS": {
			with("TEMPORAL_ADDRESS", "other:7233"),
			func(w Worker) bool { return w.Temporal.Options.HostPort == "temporal:7233" },
		},
		"white space around a value does not count": {
			with("TEMPORAL_URL", " temporal:7233\n", "TEMPORAL_NAMESPACE", "ns\n", "VCENTER_URL", "vcenter\n"),
			func(w Worker) bool {
				return w.Temporal.Options.HostPort == "temporal:7233" && w.Temporal.Options.Namespace == "ns" && w.VCenter.URL == "vcenter"
			},
		},
		"a resolver before the address": {
			with("TEMPORAL_URL", "dns:///temporal:7233"),
			func(w Worker) bool { return w.Temporal.Options.HostPort == "dns:///temporal:7233" },
		},
		"an API key turns TLS on": {
			with("TEMPORAL_API_KEY", "k"),
			func(w Worker) bool {
				return w.Temporal.Options.Credentials != nil && w.Temporal.Options.ConnectionOptions.TLS != nil
			},
		},
		"TEMPORAL_TLS and a server name": {
			with("TEMPORAL_TLS", "true", "TEMPORAL_TLS_SERVER_NAME", "t.example.com"),
			func(w Worker) bool { return w.Temporal.Options.ConnectionOptions.TLS.ServerName == "t.example.com" },
		},
		"an empty TLS variable asks for nothing": {
			with("TEMPORAL_TLS_SERVER_CA_CERT_PATH", ""),
			func(w Worker) bool { return w.Temporal.Options.ConnectionOptions.TLS == nil },
		},
		"VCENTER_INSECURE in any case": {
			with("VCENTER_INSECURE", "True"), func(w Worker) bool { return w.VCenter.Insecure },
		},
		"VCENTER_SECRET_PATH and VCENTER_CA_FILE": {
			with("VCENTER_SECRET_PATH", "/s", "VCENTER_CA_FILE", ca),
			func(w Worker) bool { return w.VCenter.SecretPath == "/s" && w.VCenter.CAFile == ca },
		},
		"a thumbprint with colons": {
			with("VCENTER_THUMBPRINT", strings.TrimSuffix(strings.Repeat("AB:", 20), ":")),
			func(w Worker) bool { return w.VCenter.Thumbprint != "" },
		},
		"DEBUG and LOG_FORMAT=text": {
			with("DEBUG", "true", "LOG_FORMAT", "text"),
			func(w Worker) bool { return w.Log == Log{Format: "text", Debug: true} },
		},
		"HTTP_ADDR is explicit, even the default": {
			with("HTTP_ADDR", ":8080"),
			func(w Worker) bool { return w.HTTP == HTTP{Addr: ":8080", Explicit: true} },
		},
		"no console unless it is asked for": {with("UI_TOKEN_FILE", "/t"), func(w Worker) bool { return w.UI.Addr == "" }},
		"a console": {with("UI_ADDR", ":8090", "UI_TOKEN_FILE", "/t", "UI_TRUSTED_HEADER", "X-User"), func(w Worker) bool {
			return w.UI == UI{Addr: ":8090", TokenFile: "/t", Header: "X-User"}
		}},
		"a free port": {with("HTTP_ADDR", "127.0.0.1:0"), func(w Worker) bool { return w.HTTP.Addr == "127.0.0.1:0" }},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := LoadWorker(tc.env, "")
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(w) {
				t.Errorf("got %+v", w)
			}
		})
	}
}

func TestLoadWorkerNamesEachBadVariable(t *testing.T) {
	noProfile(t)
	for name, tc := range map[string]struct {
		env  Env
		want []string // one line each, in order
	}{
		"nothing set": {Env{}, []string{
			"TEMPORAL_URL: not set; set it to the address of Temporal's frontend as host:port",
			"TEMPORAL_NAMESPACE: not set", "TEMPORAL_TASKQUEUE: not set", "VCENTER_URL: not set",
		}},
		"a URL as Temporal's address":    {with("TEMPORAL_URL", "http://temporal:7233"), []string{`TEMPORAL_URL: "http://temporal:7233" is not of the form host:port; set it to host:port without a scheme`}},
		"Temporal's address has no port": {with("TEMPORAL_URL", "", "TEMPORAL_ADDRESS", "temporal"), []string{`TEMPORAL_ADDRESS: "temporal" is not of the form host:port`}},
		"Temporal's port is too high":    {with("TEMPORAL_URL", "temporal:70000"), []string{`TEMPORAL_URL: "temporal:70000" has no port from 1 to 65535`}},
		"Temporal's host is missing":     {with("TEMPORAL_URL", ":7233"), []string{`TEMPORAL_URL: ":7233" names no host`}},
		"a missing client key": {with("TEMPORAL_TLS_CLIENT_CERT_PATH", "/x"), []string{
			"TEMPORAL_TLS_*: invalid TLS config: if either client cert or key path is present, other must be present too",
		}},
		"TEMPORAL_TLS is neither":     {with("TEMPORAL_TLS", "on"), []string{`TEMPORAL_TLS: "on" is neither true nor false`}},
		"a profile that is not there": {with("TEMPORAL_PROFILE", "nope"), []string{"TEMPORAL_CONFIG_FILE, TEMPORAL_PROFILE: unable to find profile nope"}},
		"vCenter by another scheme":   {with("VCENTER_URL", "ftp://user:secret@v"), []string{"VCENTER_URL: it is no address of a vCenter; set it to https://<host>/sdk"}},
		"vCenter without a host":      {with("VCENTER_URL", "https:///sdk"), []string{"VCENTER_URL: it is no address"}},
		"VCENTER_INSECURE is yes":     {with("VCENTER_INSECURE", "yes"), []string{`VCENTER_INSECURE: "yes" is neither true nor false`}},
		"a CA file that is not there": {with("VCENTER_CA_FILE", "/no/such.pem"), []string{
			"VCENTER_CA_FILE: stat /no/such.pem: no such file or directory; set it to a PEM file",
		}},
		"a thumbprint of another length": {with("VCENTER_THUMBPRINT", "AB:CD"), []string{`VCENTER_THUMBPRINT: "AB:CD" is no thumbprint`}},
		"two ways to trust at once": {
			with("VCENTER_INSECURE", "true", "VCENTER_THUMBPRINT", strings.Repeat("ab", 32)),
			[]string{"VCENTER_INSECURE, VCENTER_THUMBPRINT: they exclude each other"},
		},
		"an unknown log format":      {with("LOG_FORMAT", "xml"), []string{`LOG_FORMAT: "xml" is not one of json, text`}},
		"DEBUG is a level":           {with("DEBUG", "trace"), []string{`DEBUG: "trace" is neither true nor false`}},
		"HTTP_ADDR without a colon":  {with("HTTP_ADDR", "8080"), []string{`HTTP_ADDR: "8080" is not of the form host:port; set it to host:port or :port, such as :8080`}},
		"UI_ADDR without a port":     {with("UI_ADDR", "localhost"), []string{`UI_ADDR: "localhost" is not of the form host:port`}},
		"HTTP_ADDR's port is a word": {with("HTTP_ADDR", ":http"), []string{`HTTP_ADDR: ":http" has no port`}},
		"a file that is not there": {with("PREEMPTION_CONFIG", "/no/such.yaml"), []string{
			"configuration file: open /no/such.yaml: no such file or directory; name an existing file with --config or PREEMPTION_CONFIG",
		}},
		"everything at once": {with("TEMPORAL_TASKQUEUE", " ", "VCENTER_INSECURE", "2", "DEBUG", "x", "HTTP_ADDR", "x"), []string{
			"TEMPORAL_TASKQUEUE: not set", "VCENTER_INSECURE: ", "DEBUG: ", "HTTP_ADDR: ",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadWorker(tc.env, "")
			wantProblems(t, err, tc.want)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a secret is in %v", err)
			}
		})
	}
}

func wantProblems(t *testing.T, err error, want []string) {
	t.Helper()
	got := Problems(err)
	if len(got) != len(want) {
		t.Errorf("got %d problems, want %d:\n%v", len(got), len(want), err)
		return
	}
	for i, p := range got {
		if !strings.Contains(p.Error(), want[i]) || strings.Contains(p.Error(), "\n") {
			t.Errorf("problem %d is\n  %s\nwant\n  %s", i, p, want[i])
		}
	}
}

func TestTheFlagBeatsPreemptionConfig(t *testing.T) {
	noProfile(t)
	one := write(t, "one.yaml", "limits: {vcenterCalls: 1}")
	two := write(t, "two.yaml", "limits: {vcenterCalls: 2}")
	for name, tc := range map[string]struct {
		flag, env string
		want      int
	}{
		"neither":        {"", "", 5},
		"the variable":   {"", one, 1},
		"the flag":       {two, "", 2},
		"both: the flag": {two, one, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := LoadWorker(with("PREEMPTION_CONFIG", tc.env), tc.flag)
			if err != nil {
				t.Fatal(err)
			}
			if w.File.Limits.VCenterCalls != tc.want {
				t.Errorf("got %d", w.File.Limits.VCenterCalls)
			}
		})
	}
}

func TestATemporalProfileSuppliesWhatTheEnvironmentDoesNot(t *testing.T) {
	noProfile(t)
	file := write(t, "temporal.toml", "[profile.site]\naddress = \"site:7233\"\nnamespace = \"fromfile\"\n")
	env := Env{"TEMPORAL_CONFIG_FILE": file, "TEMPORAL_PROFILE": "site"}
	got, err := ReadTemporal(env)
	if err != nil || got.Options.HostPort != "site:7233" || got.Options.Namespace != "fromfile" {
		t.Errorf("got %+v, %v", got.Options, err)
	}
	env["TEMPORAL_URL"], env["TEMPORAL_NAMESPACE"] = "here:7233", "here"
	got, err = ReadTemporal(env)
	if err != nil || got.Options.HostPort != "here:7233" || got.Options.Namespace != "here" {
		t.Errorf("the environment must win, got %+v, %v", got.Options, err)
	}
}

func TestEnviron(t *testing.T) {
	list := []string{"A=1", "B=x=y", "A=2", "nonsense", "=C:=C:"}
	env := Environ(list)
	if want := (Env{"A": "2", "B": "x=y"}); !maps.Equal(env, want) {
		t.Errorf("got %v, want %v", env, want)
	}
	if want := []string{"A=2", "B=x=y"}; !slices.Equal(env.Environ(), want) {
		t.Errorf("got %v, want %v", env.Environ(), want)
	}
}

func TestReadLogHasTheProgramsDefault(t *testing.T) {
	if l, err := ReadLog(Env{}, "text"); err != nil || l.Format != "text" {
		t.Errorf("got %+v, %v", l, err)
	}
	if _, err := ReadLog(Env{"LOG_FORMAT": "xml"}, "text"); err == nil {
		t.Error("xml is taken")
	}
}

func TestHostHoldsNoCredentials(t *testing.T) {
	for raw, want := range map[string]string{
		"https://user:secret@vc.example.com:8443/sdk?x=y": "vc.example.com:8443",
		"vc.example.com": "vc.example.com",
		"ftp://vc":       "",
		"":               "",
	} {
		if got := (VCenter{URL: raw}).Host(); got != want {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	}
}
