package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func minutes(n int) clock.Duration { return clock.Duration(time.Duration(n) * time.Minute) }

// ladder is a throttle, then shut down, then power off.
func ladder() policy.Treatment {
	return policy.Treatment{Steps: []policy.Step{
		{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 25, Percent: true}}, For: minutes(5)},
		{Action: action.ShutdownGuest, GracePeriod: minutes(2), For: minutes(3)},
		{Action: action.PowerOff},
	}}
}

func TestWhatALadderDoesAfterWhat(t *testing.T) {
	single := policy.Treatment{Action: action.Suspend}
	throttle := policy.Treatment{Action: action.Throttle}
	for name, c := range map[string]struct {
		treatment policy.Treatment
		done      action.Action
		next      action.Action
		wait      time.Duration
	}{
		"the first step":                       {ladder(), action.Throttle, action.ShutdownGuest, 5 * time.Minute},
		"the second":                           {ladder(), action.ShutdownGuest, action.PowerOff, 3 * time.Minute},
		"the last":                             {ladder(), action.PowerOff, "", 0},
		"no ladder":                            {single, action.Suspend, "", 0},
		"a rise from a throttle to one action": {single, action.Throttle, action.Suspend, 0},
		"a rise from a suspension to another ladder":  {ladder(), action.Suspend, "", 0},
		"a fall from a power-off to a throttle alone": {throttle, action.PowerOff, "", 0},
		"a throttle alone":                            {throttle, action.Throttle, "", 0},
	} {
		if next, wait := c.treatment.After(c.done); next != c.next || wait != c.wait {
			t.Errorf("%s: %q after %s", name, next, wait)
		}
	}
	for a, want := range map[action.Action]action.Action{"": action.Throttle, action.ShutdownGuest: action.ShutdownGuest, action.Suspend: action.ShutdownGuest} {
		if got := ladder().At(a).Action; got != want {
			t.Errorf("at %q it is %s, want %s", a, got, want)
		}
	}
}

func TestALadderIsValidated(t *testing.T) {
	for want, spoil := range map[string]func(*policy.Treatment){
		"":                                      func(*policy.Treatment) {},
		"criticality.HIGH: has steps":           func(t *policy.Treatment) { t.Action = action.PowerOff },
		"criticality.HIGH.steps: has 1 entries": func(t *policy.Treatment) { t.Steps = t.Steps[2:] },
		"criticality.HIGH.steps[0].for: 0s is not within 1m to 24h":              func(t *policy.Treatment) { t.Steps[0].For = 0 },
		"criticality.HIGH.steps[2].for: belongs to a step that another":          func(t *policy.Treatment) { t.Steps[2].For = minutes(1) },
		"criticality.HIGH.steps[2].action: shutdownGuest is taken by an earlier": func(t *policy.Treatment) { t.Steps[2].Action = action.ShutdownGuest },
		"criticality.HIGH.steps[1].action: \"destroy\" is not one of":            func(t *policy.Treatment) { t.Steps[1].Action = "destroy" },
		"criticality.HIGH.steps[0].throttle: is missing":                         func(t *policy.Treatment) { t.Steps[0].Throttle = policy.Throttle{} },
		"criticality.HIGH.steps[1].action: throttle is the mildest action":       func(t *policy.Treatment) { t.Steps[0], t.Steps[1] = t.Steps[1], t.Steps[0] },
		"criticality.HIGH.steps[1].gracePeriod: 48h0m0s is not within 0s to 24h": func(t *policy.Treatment) { t.Steps[1].GracePeriod = minutes(48 * 60) },
	} {
		p := policy.Default()
		p.Criticality.High, p.Restore = ladder(), policy.DefaultRestore()
		p.Restore.Enabled = true
		spoil(&p.Criticality.High)
		if err := p.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestTheNextStepTakesVMsOfTheStepBefore(t *testing.T) {
	s := pressed(9000, 9000, vm(1, using(1000, 900)), vm(2, using(1000, 900)), vm(3, using(1000, 900)))
	p := policy.Default()
	p.Target = policy.Goal{CPU: 50}
	plan := policy.Choose(s, policy.Demand{Tag: "preemptible", Scope: clusterA, Only: []vsphere.Ref{vm(2).Ref}}, p)
	if len(plan.Targets) != 1 || plan.Targets[0].Ref != vm(2).Ref || plan.Spared[0].Reason != policy.NotOfThisStep {
		t.Errorf("targets %v, spared %+v", names(plan), plan.Spared)
	}
}

func TestARecordedDemandIsTriedAsThePolicyWouldActOnIt(t *testing.T) {
	p := policy.Default()
	p.Criticality.Low = ladder()
	for name, c := range map[string]struct {
		demand    policy.Demand
		throttles bool
	}{
		"a power-off that would be a throttle":  {policy.Demand{Criticality: "LOW"}, true},
		"a throttle that would be a power-off":  {policy.Demand{Criticality: "HIGH", Throttle: &policy.Throttle{}}, false},
		"a further step stays one":              {policy.Demand{Criticality: "LOW", Only: []vsphere.Ref{vm(1).Ref}}, false},
		"a criticality that this version lacks": {policy.Demand{Criticality: "URGENT", Throttle: &policy.Throttle{}}, true},
	} {
		if got := c.demand.For(p).Throttle != nil; got != c.throttles {
			t.Errorf("%s: throttles %v", name, got)
		}
	}
}
