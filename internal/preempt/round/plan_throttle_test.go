package round

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func toAQuarter() *policy.Throttle {
	return &policy.Throttle{CPU: policy.Speed{N: 25, Percent: true}}
}

func TestAPlanToThrottleKnowsTheLimitsOfTheVMs(t *testing.T) {
	b := newBench(t, 5)
	d := demand()
	d.Policy.MaxVMs = 10
	b.write(2, "round-0", policy.Unlimited, 300)
	limited(b, 2, 300)
	limited(b, 3, 300) // its owner's
	b.write(4, "round-0", policy.Unlimited, 300)
	limited(b, 4, 800) // its owner has set another one since
	b.vc.Set(5, func(vm *vcentertest.VM) { vm.NoLimit = true })
	b.vc.Set(3, func(vm *vcentertest.VM) { vm.CPUReservedMHz = 300 })
	plan := b.plan(PlanInput{Demand: d, RoundID: "round-1", Reserve: true, Throttle: toAQuarter()})
	limits := map[vsphere.Ref]int64{}
	for _, target := range plan.Targets {
		limits[target.Ref] = target.LimitMHz
	}
	if len(limits) != 2 || limits[vcentertest.Ref(1)] != 250 || limits[vcentertest.Ref(4)] != 250 {
		t.Errorf("the targets get %v", limits)
	}
	why := map[vsphere.Ref]policy.Reason{}
	for _, s := range plan.Spared {
		why[s.Ref] = s.Reason
	}
	if why[vcentertest.Ref(2)] != policy.AlreadyThrottled || why[vcentertest.Ref(3)] != policy.OwnLimit || why[vcentertest.Ref(5)] != policy.LimitUnseen {
		t.Errorf("spared: %+v", plan.Spared)
	}
	load := b.books.reserved[0].Loads[vcentertest.Ref(1).String()]
	if load.CPUMHz != 750 || load.MemoryMB != 0 {
		t.Errorf("a throttle is reserved with %+v", load)
	}
}

func TestAnAlarmAboutMemoryThrottlesNobody(t *testing.T) {
	b := newBench(t, 2)
	b.vc.Alarm = vcenter.CurrentAlarm{Known: true, Red: policy.Goal{Memory: 80}}
	plan := b.plan(PlanInput{Demand: demand(), RoundID: "round-1", Throttle: toAQuarter()})
	if len(plan.Targets) != 0 || len(plan.Spared) != 2 || plan.Spared[0].Reason != policy.FreesNoMemory {
		t.Errorf("%+v", plan)
	}
}

// throttles makes a criticality throttle, and the made-up plans so, too.
func (r *roundRun) throttles(t *policy.Treatment) {
	*t = policy.Treatment{Action: action.Throttle, Throttle: *toAQuarter()}
	r.onPlan = func(in PlanInput, out *PlanResult) error {
		for i := range out.Targets {
			if in.Throttle != nil {
				out.Targets[i].LimitMHz, out.Targets[i].CPUMHz, out.Targets[i].MemoryMB = 250, 750, 0
			}
		}
		return nil
	}
	r.onEvict = func(in ActInput, out *ActResult) error {
		for _, t := range in.Targets {
			what, _ := in.Action.Cut(false)
			o := outcome(t, what)
			o.Annotated, o.OffAt = true, r.Now()
			out.Outcomes = append(out.Outcomes, o)
		}
		return nil
	}
}

func TestARoundThatThrottlesReportsItLikeAPowerOff(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.throttles(&r.in.Demand.Policy.Criticality.High)
	r.in.Demand.Policy.Target = policy.Goal{CPU: 80}
	res := r.run()
	if res.State != preemptapi.RoundCompleted || res.Count(action.Throttled) != 2 || res.FreedCPUMHz != 1500 || res.FreedMemMB != 0 {
		t.Errorf("%+v", res)
	}
	if len(r.replies) != 1 || len(r.replies[0].VMs) != 2 {
		t.Errorf("replied %+v", r.replies)
	}
	if len(r.recorded) != 1 || !r.recorded[0].Evicted[0].StaysOn || r.recorded[0].Evicted[0].CPUMHz != 750 || r.completed[0].Preempted != 2 {
		t.Errorf("the ledger is told %+v, in the end %+v", r.recorded, r.completed)
	}
}

func TestAPlanForAnotherActionIsNotCarriedOut(t *testing.T) {
	for what, c := range map[string]struct {
		from, to preemption.Criticality
		soften   bool
	}{
		"raised from a throttle to a power-off":   {preemption.CriticalityLow, preemption.CriticalityHigh, false},
		"softened from a power-off to a throttle": {preemption.CriticalityHigh, preemption.CriticalityLow, true},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRoundRun(t, 1, c.from)
			r.throttles(&r.in.Demand.Policy.Criticality.Low)
			once := false
			r.atPlan = func() {
				if !once {
					once = true
					r.SignalWorkflow(ChangeSignal, Change{Criticality: c.to, Soften: c.soften, Reason: "test"})
				}
			}
			r.run()
			if len(r.plans) != 2 || len(r.evictions) != 1 {
				t.Fatalf("%d plans, %d evictions", len(r.plans), len(r.evictions))
			}
			in := r.evictions[0]
			if throttle := in.Action == action.Throttle; throttle != c.soften || throttle != (in.Targets[0].LimitMHz > 0) || throttle != (r.plans[1].Throttle != nil) {
				t.Errorf("%s of %+v by a plan of %+v", in.Action, in.Targets[0], r.plans[1].Throttle)
			}
		})
	}
}
