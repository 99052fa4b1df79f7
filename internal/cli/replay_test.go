package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fakeAsked and fakePlanned are of the step PlanRound what a round's history keeps.
type (
	fakeAsked struct {
		Demand preemptapi.Demand `json:"demand"`
	}
	fakePlanned struct {
		Targets   []policy.Target   `json:"targets"`
		Spared    []policy.Spared   `json:"spared"`
		PlannedAt time.Time         `json:"plannedAt"`
		Over      string            `json:"over,omitempty"`
		Basis     *preemptapi.Basis `json:"basis,omitempty"`
	}
)

func fakePlanning(ctx workflow.Context, tag string) error {
	in := fakeAsked{preemptapi.Demand{
		Tag: tag, PolicyName: "default", PolicyHash: "0123456789ab",
		Scope: vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}, Change: &preemptapi.Change{Alarm: "cluster-cpu"},
	}}
	switch tag {
	case "recorded-elsewhere":
		in.Demand.PolicyName = "abroad"
	case "recorded-vm":
		in.Demand.VM = "web-1"
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for range 2 { // the second plan does not count
		if err := workflow.ExecuteActivity(ctx, preemptapi.PlanActivity, in).Get(ctx, nil); err != nil {
			return err
		}
		in.Demand.PolicyName = "later"
	}
	return nil
}

// fakePlanRound has chosen web-1, of two VMs that are alike but for their age, in a cluster at 90 %.
func fakePlanRound(_ context.Context, in fakeAsked) (fakePlanned, error) {
	cluster, on := in.Demand.Scope, vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}
	vm := func(id, name string, age time.Duration) vsphere.VM {
		return vsphere.VM{
			Ref: ref(id), Name: name, PowerState: vsphere.PoweredOn, Tagged: true, Connected: true, Host: on, Cluster: cluster,
			BootTime: until.Add(-age), CPUMHz: 10_000, MemoryMB: 1024,
		}
	}
	out := fakePlanned{Targets: []policy.Target{{Ref: ref("vm-1"), Name: "web-1"}}, Spared: []policy.Spared{}, PlannedAt: until}
	switch in.Demand.Tag {
	case "recorded-not":
		return out, nil
	case "recorded-over":
		out.Targets, out.Over = nil, "the alarm has fallen"
		return out, nil
	}
	out.Basis = &preemptapi.Basis{
		Snapshot: vsphere.Snapshot{
			Time: until, Scope: cluster, ScopeName: "cluster-a",
			VMs:   []vsphere.VM{vm("vm-1", "web-1", time.Hour), vm("vm-2", "web-2", 2*time.Hour)},
			Hosts: []vsphere.Host{{Ref: on, Cluster: cluster, Connected: true, CPUMHz: 100_000, CPUUsedMHz: 90_000, MemoryMB: 4096, MemoryUsedMB: 2048}},
		},
		Demand: policy.Demand{Tag: in.Demand.Tag, Scope: cluster},
	}
	if in.Demand.VM != "" {
		out.Basis.Snapshot.VMs = out.Basis.Snapshot.VMs[:1]
	}
	return out, nil
}

type replayed struct {
	Different, Then, Now int
	More                 bool
	Rounds               []struct {
		RoundID, Alarm, VM string
		Different          bool
		New                []policy.Target
		Staying            []policy.Spared
		Usage              []policy.Usage
	}
	Skipped []struct{ RoundID, Why string }
}

// rounds runs rounds of the tags and waits until they are listed.
func (s *site) rounds(tags ...string) {
	s.t.Helper()
	for _, tag := range tags {
		run, err := s.client.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: tag + "-" + s.queue, TaskQueue: s.queue}, preemptapi.RoundType, tag)
		if err == nil {
			err = run.Get(s.t.Context(), nil)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	eventually(s.t, "the rounds are listed", func() bool {
		got := decode[replayed](s.t, s.run("policy", "replay", "testdata/empty.yaml", "-o", "json").stdout)
		return len(got.Rounds)+len(got.Skipped) == len(tags)
	})
}

func TestReplayShowsWhomAnotherPolicyWouldHaveChosen(t *testing.T) {
	s := newSite(t, true)
	s.rounds("recorded")
	for name, c := range map[string]struct {
		file string
		code int
		says []string
	}{
		"the same": {
			"policies: {default: {maxVMs: 1}}", 0,
			[]string{"1 tried, 0 would have chosen differently", "1 chosen then, 1 now", "cluster-cpu   cluster-a (ClusterComputeResource:domain-c7)"},
		},
		"one more": {
			"policies: {default: {maxVMs: 2}}", 0,
			[]string{"1 would have chosen differently", "1 chosen then, 2 now", "web-2   vm-2    goes   rank 2: priority 100, on for 2h"},
		},
		"another": {
			"policies: {default: {maxVMs: 1, protect: {names: [web-1]}}}", 0,
			[]string{"web-2   vm-2    goes", "web-1   vm-1    stays   the policy excludes its name", "80.0 GHz (80%)   1.0 GiB (25%)"},
		},
		"in part": {
			"policies: {default: {target: {cpu: 50, margin: 0}}}", 0,
			[]string{"1      2 (in part)   1     0         70.0 GHz (70%)"},
		},
		"another, which counts as failed": {"policies: {default: {maxVMs: 2}}", 4, nil},
		"the same, which does not":        {"policies: {default: {maxVMs: 1}}", 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"policy", "replay", configFile(t, c.file)}
			if c.says == nil {
				args = append(args, "--fail-different")
			}
			s.run(args...).want(t, c.code, "stdout", c.says...)
		})
	}
	s.run("policy", "replay", configFile(t, "policies: {default: {maxVMs: 2}}"), "--fail-different").
		want(t, 4, "stderr", "Error: 1 of 1 rounds would have chosen differently")
	s.run("policy", "replay", "testdata/empty.yaml", "-o", "yaml").want(t, 0, "stdout", "different: true")
	s.run("policy", "replay", "testdata/empty.yaml", "--json").want(t, 0, "stdout", `"msg":"replayed"`)
}

func TestReplayTakesThePolicyThatIsMeant(t *testing.T) {
	s := newSite(t, true)
	s.rounds("recorded", "recorded-elsewhere")
	file := configFile(t, "policies: {default: {maxVMs: 1}, careful: {maxVMs: 1, protect: {names: ['web-*']}}}")
	own := decode[replayed](t, s.run("policy", "replay", file, "-o", "json").stdout)
	if len(own.Rounds) != 1 || own.Different != 0 || len(own.Skipped) != 1 || !strings.Contains(own.Skipped[0].Why, `no policy "abroad"`) {
		t.Errorf("by their own names: %+v", own)
	}
	all := decode[replayed](t, s.run("policy", "replay", file, "--policy", "careful", "-o", "json").stdout)
	if len(all.Rounds) != 2 || all.Different != 2 || all.Then != 2 || all.Now != 0 {
		t.Errorf("by one name: %+v", all)
	}
	if r := all.Rounds[0]; len(r.Staying) != 1 || r.Staying[0].Reason != policy.ExcludedName || r.Alarm != "cluster-cpu" || len(r.Usage) != 1 {
		t.Errorf("unexpected round %+v", r)
	}
}

func TestReplayNamesTheRoundsItCannotTry(t *testing.T) {
	s := newSite(t, true)
	s.rounds("recorded-not", "recorded-over", "observed")
	got := s.run("policy", "replay", "testdata/empty.yaml")
	got.want(t, 0, "stdout", "0 tried", "not tried   3", "too many candidates", "the alarm has fallen", "it has made no plan")
	s.run("policy", "replay", "testdata/empty.yaml", "--fail-different").want(t, 0, "stdout", "0 tried")
}

func TestReplayLooksAtTheRoundsThatAreMeant(t *testing.T) {
	s := newSite(t, true)
	s.rounds("recorded", "recorded-vm")
	other := newSite(t, false)
	other.queue += "'-other"
	other.run("policy", "replay", "testdata/empty.yaml").want(t, 0, "stdout", "0 tried")
	one := decode[replayed](t, s.run("policy", "replay", "testdata/empty.yaml", "--limit", "1", "-o", "json").stdout)
	if len(one.Rounds) != 1 || !one.More {
		t.Errorf("with a limit: %+v", one)
	}
	s.run("policy", "replay", "testdata/empty.yaml", "--limit", "1").want(t, 0, "stdout", "raise --limit")
	later := optionsAt(time.Now().Add(48 * time.Hour))
	preemptctl(t, later, "policy", "replay", "testdata/empty.yaml", "-s", s.address, "-q", s.queue).want(t, 0, "stdout", "0 tried")
	// A VM that was named goes whatever the shortfall, as it did.
	noNeed := configFile(t, "policies: {default: {target: {cpu: 100, margin: 0}}}")
	for _, r := range decode[replayed](t, s.run("policy", "replay", noNeed, "-o", "json").stdout).Rounds {
		if r.Different == (r.VM == "web-1") {
			t.Errorf("unexpected round %+v", r)
		}
	}
}

func TestReplaySaysWhatIsWrongWithTheFile(t *testing.T) {
	file := configFile(t, twoPolicies)
	bad := configFile(t, "policies:\n  default:\n    maxVM: 3\n")
	s := newSite(t, false)
	s.run("policy", "replay", "/no/such/file").want(t, 3, "stderr", "no such file: /no/such/file")
	s.run("policy", "replay", file, "--policy", "bold").want(t, 3, "stderr", `no policy "bold" in `+file+"; there are careful, default")
	s.run("policy", "replay", bad).want(t, 1, "stderr", bad+":3: policies.default.maxVM: unknown key", bad+" has a problem")
}
