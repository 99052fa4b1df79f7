package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// patient is a worker with a vCenter.
type patient struct {
	*Activities
	t      *testing.T
	vc     *simulation.VCenter
	secret string
}

func newPatient(t *testing.T, o simulation.Options, change ...func(*vcenter.Config)) *patient {
	t.Helper()
	o.Clusters, o.HostsPerCluster, o.VMsPerCluster = 1, 1, 4
	vc, err := simulation.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vc.Close)
	cfg := vcenter.Config{URL: vc.URL(), SecretPath: t.TempDir(), Thumbprint: vc.Thumbprint()}
	for _, f := range change {
		f(&cfg)
	}
	if err := vc.WriteSecret(cfg.SecretPath); err != nil {
		t.Fatal(err)
	}
	g, err := vcenter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		g.Close(ctx)
	})
	vc.Alarm("cluster-cpu-above-80")
	if !o.NoOwnerCategories {
		if err := vc.CreateTag(policy.CategoryProtect, policy.TagDoNotPreempt); err != nil {
			t.Fatal(err)
		}
	}
	return &patient{t: t, vc: vc, secret: cfg.SecretPath, Activities: &Activities{
		VCenter: g, Policies: map[string]policy.Policy{"default": policy.Default()}, Worker: "w", Version: "v",
		Allowed: []string{"preemptible"},
		Rules:   []trigger.Rule{{Alarm: "cluster-cpu-above-80", Action: trigger.Preempt{Tag: "preemptible"}}},
	}}
}

func (p *patient) diagnose() doctorapi.Result { return p.diagnoseWith(doctorapi.Input{}) }

func (p *patient) diagnoseWith(in doctorapi.Input) doctorapi.Result {
	p.t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(p.Diagnose)
	value, err := env.ExecuteActivity(p.Diagnose, in)
	if err != nil {
		p.t.Fatal(err)
	}
	var r doctorapi.Result
	if err := value.Get(&r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// want checks state and texts of one check.
func (p *patient) want(r doctorapi.Result, name string, state doctorapi.State, texts ...string) {
	p.t.Helper()
	for _, c := range r.Checks {
		if c.Name != name {
			continue
		}
		if c.State != state {
			p.t.Errorf("%s is %s, want %s: %s; %s", name, c.State, state, c.Text, c.Remedy)
		}
		for _, text := range texts {
			if !strings.Contains(c.Text+"; "+c.Remedy, text) {
				p.t.Errorf("%s lacks %q: %s; %s", name, text, c.Text, c.Remedy)
			}
		}
		return
	}
	p.t.Errorf("no check %q: %+v", name, r.Checks)
}

func TestASoundSiteHasNothingToTell(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	r := p.diagnose()
	for _, c := range r.Checks {
		if c.State != doctorapi.OK || c.Remedy != "" || c.Text == "" {
			t.Errorf("%+v", c)
		}
	}
	p.want(r, "vCenter certificate", doctorapi.OK, "trusted by VCENTER_THUMBPRINT; valid until ")
	p.want(r, "vCenter login", doctorapi.OK, `as VSPHERE.LOCAL\preemption`)
	p.want(r, "clock of vCenter", doctorapi.OK)
	p.want(r, "clock of Temporal", doctorapi.OK)
	p.want(r, "tag preemptible", doctorapi.OK, "in category preemption, on 4 VMs")
	p.want(r, "privileges to preempt", doctorapi.OK, "granted on 4 tagged VMs")
	p.want(r, "rules", doctorapi.OK, "1; vCenter has their alarms")
	if r.Worker != "w" || r.Version != "v" || r.Rules != 1 {
		t.Errorf("%+v", r)
	}
}

func TestTheFirstTroubleEndsTheExamination(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*vcenter.Config)
		after  func(*patient)
		check  string
		says   []string
	}{
		"nobody answers": {
			func(c *vcenter.Config) { c.URL = "https://127.0.0.1:1/sdk" }, nil,
			connection,
			[]string{"connection refused", "check VCENTER_URL"},
		},
		"another certificate": {
			func(c *vcenter.Config) { c.Thumbprint = strings.Repeat("00:", 31) + "00" }, nil,
			certificate,
			[]string{"expected 00:00", "VCENTER_THUMBPRINT="},
		},
		"a wrong password": {
			nil, func(p *patient) { p.vc.SetPassword("another") },
			login,
			[]string{"InvalidLogin", "correct the files in "},
		},
		"no password": {
			nil, func(p *patient) { _ = os.Remove(filepath.Join(p.secret, "password")) },
			login,
			[]string{"password", "VCENTER_SECRET_PATH"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var change []func(*vcenter.Config)
			if tc.change != nil {
				change = append(change, tc.change)
			}
			p := newPatient(t, simulation.Options{}, change...)
			if tc.after != nil {
				tc.after(p)
			}
			r := p.diagnose()
			p.want(r, tc.check, doctorapi.Failed, tc.says...)
			p.want(r, "the rest", doctorapi.Skipped)
			failed := 0
			for _, c := range r.Checks {
				if c.State == doctorapi.Failed {
					failed++
				}
			}
			if failed != 1 {
				t.Errorf("%d checks failed, want the first alone: %+v", failed, r.Checks)
			}
		})
	}
}

func TestAnUnverifiedCertificateIsWarnedOf(t *testing.T) {
	p := newPatient(t, simulation.Options{}, func(c *vcenter.Config) { c.Thumbprint, c.Insecure = "", true })
	p.want(p.diagnose(), certificate, doctorapi.Warning, "not verified", "VCENTER_THUMBPRINT="+p.vc.ThumbprintSHA256())
}

func TestMissingPrivilegesFailWhereTheyAreNeeded(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	p.vc.Deny("VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.PowerOn", "Global.ManageCustomFields")
	r := p.diagnose()
	p.want(r, "privileges to preempt", doctorapi.Failed, `VSPHERE.LOCAL\preemption lacks VirtualMachine.Interact.PowerOff on vm-`, "and 1 more",
		"govc role.update -a ROLE VirtualMachine.Interact.PowerOff")
	p.want(r, "privileges to restore", doctorapi.OK, "no rule and no policy needs it")
	p.want(r, "attribute com.vmware.workflows.vsphere.preemption", doctorapi.Failed, "not annotated", "govc fields.add -type VirtualMachine com.vmware")

	restore := policy.Default()
	restore.Restore.Enabled = true
	p.Policies["default"] = restore
	p.want(p.diagnose(), "privileges to restore", doctorapi.Failed, "lacks VirtualMachine.Interact.PowerOn")
}

func TestThePrivilegeToSetLimitsIsNeededOnlyToThrottle(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	p.vc.Deny("VirtualMachine.Config.Resource")
	restores := policy.Default()
	restores.Restore.Enabled = true
	p.Policies["default"] = restores
	p.want(p.diagnose(), "privileges to throttle", doctorapi.OK, "no rule and no policy needs it")
	restores.Criticality.High = policy.Treatment{Steps: []policy.Step{{Action: action.Throttle}, {Action: action.PowerOff}}}
	p.Policies["default"] = restores
	p.want(p.diagnose(), "privileges to throttle", doctorapi.Failed, "lacks VirtualMachine.Config.Resource")
}

func TestWithoutATaggedVMPrivilegesOfDatacentersAreAHint(t *testing.T) {
	p := newPatient(t, simulation.Options{Tagged: -1})
	p.vc.Deny("VirtualMachine.Interact.PowerOff")
	r := p.diagnose()
	p.want(r, "tag preemptible", doctorapi.Warning, "on 0 VMs", "govc tags.attach preemptible")
	p.want(r, "privileges to preempt", doctorapi.Warning, "lacks VirtualMachine.Interact.PowerOff on datacenter-", "where they are needed")
}

func TestARuleForATagThatTheWorkerRefusesFails(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	p.Allowed = []string{"batch"}
	p.want(p.diagnose(), "tag preemptible", doctorapi.Failed, "this worker refuses requests for it", "limits.allowedTags")
}

func TestRulesThatFitNothingAreToldWithTheNearNames(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	p.vc.Alarm("cluster-memory-above-80")
	p.vc.Alarm(placement.AlarmCPU)
	p.Rules = append(p.Rules,
		trigger.Rule{Alarm: "Cluster-CPU-above-90", Action: trigger.Preempt{Tag: "nosuch"}},
		trigger.Rule{Alarm: "zzz*", Action: trigger.Preempt{Tag: "preemptible"}},
		trigger.Rule{Alarm: "cluster-*", Action: trigger.Preempt{Tag: "preemptible"}},
		trigger.Rule{Alarm: placement.AlarmCPU, Action: trigger.Resize{}},
		trigger.Rule{Alarm: placement.AlarmOriginalCPU, Action: trigger.Resize{}},
	)
	r := p.diagnose()
	p.want(r, "rule Cluster-CPU-above-90", doctorapi.Warning, "no alarm", "near: cluster-cpu-above-80")
	p.want(r, "rule zzz*", doctorapi.Warning, "correct the name")
	p.want(r, "tag nosuch", doctorapi.Failed, "no such tag", "govc tags.create", "global permission")
	for _, c := range r.Checks {
		if c.Name == "rule "+placement.AlarmOriginalCPU || c.Name == "rule cluster-*" {
			t.Errorf("%+v", c)
		}
	}
}

func TestClocksApartAreWarnedOf(t *testing.T) {
	p := &patient{t: t}
	e := &examination{}
	e.clock("clock of vCenter", "vCenter's", -6*time.Second)
	e.clock("clock of Temporal", "Temporal's", 4*time.Second)
	r := doctorapi.Result{Checks: e.checks}
	p.want(r, "clock of vCenter", doctorapi.Warning, "the worker's clock is 6s behind vCenter's", "NTP")
	p.want(r, "clock of Temporal", doctorapi.OK, "4s ahead of Temporal's")
}

func TestEveryPrivilegeIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range (&examination{Activities: &Activities{}}).features() {
		for _, p := range f.privileges {
			if !strings.Contains(string(page), p) {
				t.Errorf("docs/security.md lacks %s, which %s needs", p, f.name)
			}
		}
	}
}

func TestAlarmsThatTheAccountMayNotSeeAreCounted(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	host := p.vc.Cluster("cluster-a").Hosts[0].Ref
	if _, err := p.vc.PostAlarm(t.Context(), simulation.AlarmChange{Name: "cpu", Entity: host, From: "green", To: "red"}); err != nil {
		t.Fatal(err)
	}
	p.want(p.diagnose(), "alarms", doctorapi.OK, "1 are yellow or red")
	p.vc.HideObjects(p.vc.Alarm("cpu"))
	p.want(p.diagnose(), "alarms", doctorapi.Warning, "1 are yellow or red", "1 cannot be read", "Read-only")
}

// Each action and each kind of rule finds its privileges among the features, and is looked for where the file uses it.
func TestThePrivilegesOfEachActionAndKindOfRuleAreAskedFor(t *testing.T) {
	needed := func(privileges []string, a *Activities) (asked, used bool) {
		for _, f := range (&examination{Activities: a}).features() {
			if !slices.ContainsFunc(privileges, func(p string) bool { return !slices.Contains(f.privileges, p) }) {
				return true, f.used
			}
		}
		return false, false
	}
	for _, act := range action.All() {
		p := policy.Policy{}
		p.Criticality.Low.Action, p.Restore.Enabled = act, true
		a := &Activities{Policies: map[string]policy.Policy{"default": p}}
		for what, privileges := range map[string][]string{"do": act.Privileges(), "undo": act.Undo()} {
			if asked, used := needed(privileges, a); !asked || !used {
				t.Errorf("to %s %s: asked for %v, used %v", what, act, asked, used)
			}
		}
	}
	rules := map[trigger.Kind]trigger.Action{
		trigger.KindPreempt: trigger.Preempt{}, trigger.KindResize: trigger.Resize{},
		trigger.KindReconfigure: trigger.Reconfigure{}, trigger.KindMove: trigger.Move{},
		trigger.KindMakeRoom: trigger.MakeRoom{},
	}
	for _, k := range trigger.Kinds() {
		asked, used := needed(k.Privileges(), &Activities{Rules: []trigger.Rule{{Action: rules[k]}}})
		if _, idle := needed(k.Privileges(), &Activities{}); !asked || !used || idle != (k == trigger.KindPreempt) {
			t.Errorf("to %s: asked for %v, used %v, without a rule %v", k, asked, used, idle)
		}
	}
	recommends := &Activities{Rules: []trigger.Rule{{Action: trigger.Move{Settings: placement.Move{Mode: placement.ModeRecommend}}}}}
	if _, used := needed(trigger.KindMove.Privileges(), recommends); used {
		t.Error("a rule that only recommends needs privileges")
	}
}

func TestTheDocumentationListsThePrivilegesThatAreAskedFor(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, _ := strings.Cut(string(page), "| privileges to ")
	row, _, _ = strings.Cut(row, " |")
	var names []string
	for _, f := range (&examination{Activities: &Activities{}}).features() {
		names = append(names, f.name)
	}
	if listed := strings.Split(row, ", "); !slices.Equal(slices.Sorted(slices.Values(listed)), slices.Sorted(slices.Values(names))) {
		t.Errorf("docs/operations.md lists %v, asked for are %v", listed, names)
	}
}
