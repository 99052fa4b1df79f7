package e2e

import (
	"maps"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// limits are the CPU limits of VMs by MoRef.
type limits = map[types.ManagedObjectReference]int64

func TestAnAlarmThrottlesAndGreenTakesTheLimitsBackExactly(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithThrottle(func(p *policy.Policy) { p.Target = policy.Goal{CPU: 75, Margin: 1} }))
	vms := s.VC.TaggedVMs("cluster-a")
	own := limits{}
	for i, vm := range vms {
		if i%2 == 0 {
			own[vm.Ref] = int64(20000 + i)
			s.SetLimit(vm.Ref, own[vm.Ref])
		}
	}
	s.Must(s.VC.SetClusterUsage("cluster-a", 85, 50))
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	r := s.Done("alarm")
	if r.State != preemptapi.RoundCompleted || r.Count(action.Throttled) != len(r.Targets) || len(r.Targets) == 0 || r.FreedCPUMHz == 0 || r.FreedMemMB != 0 {
		t.Fatalf("%s", sitetest.Pretty(r))
	}
	now := s.Limits()
	for _, target := range r.Targets {
		ref := types.ManagedObjectReference{Type: target.Ref.Type, Value: target.Ref.Value}
		a, _ := s.Attribute(ref)
		if !target.Annotated || !a.Preempted || a.Outcome != action.Throttled || !a.Throttle.Active(now[ref]) {
			t.Errorf("%s: limit %d, attribute %s", target.Name, now[ref], sitetest.Pretty(a))
		}
	}
	for _, vm := range vms {
		if !s.On(vm) {
			t.Errorf("%s is off", vm.Name)
		}
	}
	s.Eventually("the load has fallen", func() bool { cpu, _ := s.VC.Usage("cluster-a"); return cpu < 76 })
	s.Change("alarm", "cluster-a", 0, "red", "green")
	restored := s.Restored()
	s.WantRestored(restored, preemptapi.RestoreCompleted, len(r.Targets))
	s.WantLimits(own)
	s.Eventually("the load is back", func() bool { cpu, _ := s.VC.Usage("cluster-a"); return cpu > 84 })
}

func TestALimitThatItsOwnerChangedMeanwhileStays(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithThrottle())
	vms := s.VC.TaggedVMs("cluster-a")
	s.SetLimit(vms[0].Ref, 20000)
	s.SetLimit(vms[1].Ref, 20000)
	s.Worker()
	s.Preempted(6)
	s.SetLimit(vms[0].Ref, 3333)
	s.SetLimit(vms[2].Ref, 4444)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	r := s.Restored()
	if r.State != preemptapi.RestoreCompleted || len(r.Restored()) != 4 || left(r, vms[0]) != policy.LimitChanged || left(r, vms[2]) != policy.LimitChanged {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	s.WantLimits(limits{vms[0].Ref: 3333, vms[1].Ref: 20000, vms[2].Ref: 4444})
	for _, i := range []int{0, 2} {
		if a, _ := s.Attribute(vms[i].Ref); a.Preempted || a.Throttle.Open() {
			t.Errorf("the record of %s is not closed: %s", vms[i].Name, sitetest.Pretty(a))
		}
	}
}

func TestAPersonTakesTheLimitOfOneVMBack(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithThrottle())
	vms := s.VC.TaggedVMs("cluster-a")
	s.Worker()
	s.Preempted(6)
	before := s.Limits()
	r, err := s.ByHand(preemptapi.RestoreInput{VMs: []string{vms[1].Name}})
	s.Must(err)
	if r.State != preemptapi.RestoreCompleted || len(r.Restored()) != 1 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	want := maps.Clone(before)
	want[vms[1].Ref] = policy.Unlimited
	s.WantLimits(want)
}

func TestAThrottledVMThatIsPoweredOffLaterComesBackWithTheLimitThatItHad(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2), sitetest.WithThrottle(func(p *policy.Policy) {
		p.Criticality.Low, p.Criticality.High = p.Criticality.High, policy.Treatment{Action: action.PowerOff}
	}))
	vms := s.VC.TaggedVMs("cluster-a")
	s.SetLimit(vms[0].Ref, 20000)
	s.Worker()
	s.Signal("low", s.AlarmRequest("cluster-a", preemption.CriticalityLow))
	sitetest.WantOutcome(t, s.Round(s.Started("low")), vms[0], action.Throttled)
	s.Signal("high", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	sitetest.WantOutcome(t, s.Round(s.Started("high")), vms[0], action.PoweredOff)
	a, _ := s.Attribute(vms[0].Ref)
	if a.Outcome != action.PoweredOff || a.Throttle == nil || a.Throttle.WasMHz != 20000 {
		t.Errorf("%s", sitetest.Pretty(a))
	}
	_, err := s.ByHand(preemptapi.RestoreInput{})
	s.Must(err)
	s.WantLimits(limits{vms[0].Ref: 20000})
	if !s.On(vms[0]) || !s.On(vms[1]) {
		t.Error("they are not both back")
	}
}
