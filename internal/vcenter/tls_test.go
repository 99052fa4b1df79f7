package vcenter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestConfigurationIsChecked(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	sha1Hex := strings.Repeat("AB", 20)
	cases := map[string]struct {
		cfg  Config
		want string // in the error; "" for none
	}{
		"no URL":                     {Config{}, "VCENTER_URL"},
		"another scheme":             {Config{URL: "ftp://vc"}, "scheme"},
		"no host":                    {Config{URL: "https:///sdk"}, "no host"},
		"unreadable":                 {Config{URL: "https://user:hunter2@vc:port/"}, "cannot be read"},
		"a bare host":                {Config{URL: "vc.example.com"}, ""},
		"host and port":              {Config{URL: "vc.example.com:8443"}, ""},
		"insecure and a CA":          {Config{URL: "vc", Insecure: true, CAFile: "x"}, "exclude each other"},
		"a CA and a thumbprint":      {Config{URL: "vc", CAFile: "x", Thumbprint: sha1Hex}, "exclude each other"},
		"a CA file that is missing":  {Config{URL: "vc", CAFile: "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
		"a CA file without any":      {Config{URL: "vc", CAFile: bad}, "no certificate"},
		"a short thumbprint":         {Config{URL: "vc", Thumbprint: "AB:CD"}, "VCENTER_THUMBPRINT"},
		"a thumbprint with colons":   {Config{URL: "vc", Thumbprint: strings.TrimSuffix(strings.Repeat("ab:", 32), ":")}, ""},
		"a thumbprint without them":  {Config{URL: "vc", Thumbprint: sha1Hex}, ""},
		"a negative number of calls": {Config{URL: "vc", MaxConcurrentCalls: -1}, "negative"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.cfg)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v lacks %q", err, c.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("%v shows a password", err)
			}
		})
	}
}

func TestURLIsCompletedAndStripped(t *testing.T) {
	g, err := New(Config{URL: "me:hunter2@vc.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.url.String(); got != "https://vc.example.com/sdk" {
		t.Errorf("URL %s", got)
	}
}

func TestCertificates(t *testing.T) {
	v := simulated(t, simulation.Options{Clusters: 1, VMsPerCluster: 1})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, v.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	otherCA := filepath.Join(t.TempDir(), "other.pem")
	other := simulated(t, simulation.Options{Clusters: 1, VMsPerCluster: 1})
	if err := os.WriteFile(otherCA, other.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := strings.ToLower(strings.ReplaceAll(v.ThumbprintSHA256(), ":", ""))
	cases := map[string]struct {
		cfg  Config
		want Kind
	}{
		"nothing set":           {Config{}, Certificate},
		"insecure":              {Config{Insecure: true}, ""},
		"the right CA":          {Config{CAFile: ca}, ""},
		"another CA":            {Config{CAFile: otherCA}, Certificate},
		"the SHA-1":             {Config{Thumbprint: v.Thumbprint()}, ""},
		"the SHA-256":           {Config{Thumbprint: v.ThumbprintSHA256()}, ""},
		"the SHA-256 unadorned": {Config{Thumbprint: plain}, ""},
		"another thumbprint":    {Config{Thumbprint: other.ThumbprintSHA256()}, Certificate},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g := gateway(t, v, func(cfg *Config) {
				cfg.Insecure, cfg.CAFile, cfg.Thumbprint = c.cfg.Insecure, c.cfg.CAFile, c.cfg.Thumbprint
			})
			err := g.Connect(t.Context())
			if KindOf(err) != c.want {
				t.Fatalf("kind %q, want %q: %v", KindOf(err), c.want, err)
			}
			if err == nil {
				return
			}
			presented := v.ThumbprintSHA256()
			for _, want := range []string{"VCENTER_CA_FILE", "VCENTER_THUMBPRINT=" + presented, "VCENTER_INSECURE"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}

func TestARenewedFileOfTheAuthorityCountsWithoutARestart(t *testing.T) {
	v := simulated(t, simulation.Options{Clusters: 1, VMsPerCluster: 1})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write := func() {
		if err := os.WriteFile(ca, v.CertPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	g := gateway(t, v, func(cfg *Config) { cfg.Thumbprint, cfg.CAFile = "", ca })
	if err := g.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.RenewCertificate(); err != nil {
		t.Fatal(err)
	}
	_, err := g.FindVM(t.Context(), "nowhere")
	if KindOf(err) != Certificate {
		t.Fatalf("kind %q of a certificate that nobody vouches for: %v", KindOf(err), err)
	}
	write()
	if _, err := g.FindVM(t.Context(), "nowhere"); KindOf(err) != NotFound {
		t.Fatalf("after the file was renewed: %v", err)
	}
}

func TestACertificateForAnotherHostIsRefused(t *testing.T) {
	v := simulated(t, simulation.Options{Clusters: 1, VMsPerCluster: 1})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, v.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	g := gateway(t, v, func(cfg *Config) {
		cfg.Thumbprint, cfg.CAFile, cfg.URL = "", ca, strings.Replace(v.URL(), "127.0.0.1", "127.0.0.2", 1)
	})
	if err := g.Connect(t.Context()); KindOf(err) != Certificate && KindOf(err) != Unavailable {
		t.Fatalf("kind %q: %v", KindOf(err), err)
	}
}
