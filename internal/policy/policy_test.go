package policy_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestTheDefaultsAreThePrototypesDocumentedOnes(t *testing.T) {
	p := policy.Default()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	if p.MaxVMs != 10 || p.Cooldown.D() != time.Minute || p.Criticality.High.Action != action.PowerOff {
		t.Errorf("10 VMs, one minute, HIGH off at once; got %+v", p)
	}
	if !p.Criticality.Medium.ThenForce || p.Criticality.Low.ThenForce {
		t.Errorf("MEDIUM forces and LOW does not; got %+v", p.Criticality)
	}
}

func TestValidateNamesTheImpossibleKey(t *testing.T) {
	cases := map[string]func(*policy.Policy){
		"mode":                           func(p *policy.Policy) { p.Mode = "dream" },
		"scope":                          func(p *policy.Policy) { p.Scope = "rack" },
		"maxVMs":                         func(p *policy.Policy) { p.MaxVMs = 0 },
		"cooldown":                       func(p *policy.Policy) { p.Cooldown = -1 },
		"criticality.LOW.action":         func(p *policy.Policy) { p.Criticality.Low.Action = "unplug" },
		"criticality.MEDIUM.gracePeriod": func(p *policy.Policy) { p.Criticality.Medium.GracePeriod = clock.Duration(48 * time.Hour) },
	}
	for key, spoil := range cases {
		t.Run(key, func(t *testing.T) {
			p := policy.Default()
			spoil(&p)
			if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+":") {
				t.Errorf("want an error that names %s, got %v", key, err)
			}
		})
	}
}

func TestTheHashChangesWithThePolicyAlone(t *testing.T) {
	a, b := policy.Default(), policy.Default()
	if a.Hash() != b.Hash() || a.Hash() == "" {
		t.Fatalf("the same policy has hashes %q and %q", a.Hash(), b.Hash())
	}
	b.MaxVMs = 11
	if a.Hash() == b.Hash() {
		t.Error("another policy has the same hash")
	}
}

func TestADurationIsWrittenWithItsUnit(t *testing.T) {
	var d clock.Duration
	if err := json.Unmarshal([]byte(`"90s"`), &d); err != nil || d.D() != 90*time.Second {
		t.Fatalf("90s reads as %v, %v", d, err)
	}
	if b, err := json.Marshal(d); err != nil || string(b) != `"1m30s"` {
		t.Errorf("it is written %s, %v", b, err)
	}
	for _, bad := range []string{`90`, `"90"`, `"soon"`, `null x`} {
		if err := json.Unmarshal([]byte(bad), &d); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestARefIsReadInEitherCaseAndWrittenAsDocumented(t *testing.T) {
	for _, text := range []string{`{"Type":"VirtualMachine","Value":"vm-1"}`, `{"type":"VirtualMachine","value":"vm-1"}`} {
		var r vsphere.Ref
		if err := json.Unmarshal([]byte(text), &r); err != nil || r.String() != "VirtualMachine:vm-1" {
			t.Errorf("%s reads as %v, %v", text, r, err)
		}
		if b, _ := json.Marshal(r); string(b) != `{"Type":"VirtualMachine","Value":"vm-1"}` {
			t.Errorf("it is written %s", b)
		}
	}
	for _, bad := range []string{"", "vm-1", ":vm-1", "VirtualMachine:"} {
		if _, ok := vsphere.ParseRef(bad); ok {
			t.Errorf("%q was taken for a reference", bad)
		}
	}
}
