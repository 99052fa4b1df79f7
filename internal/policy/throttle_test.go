package policy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// using makes a VM use this much.
func using(cpuMHz, memoryMB int64) func(*vsphere.VM) {
	return func(v *vsphere.VM) { v.CPUMHz, v.MemoryMB, v.Host = cpuMHz, memoryMB, pressedHost }
}

var pressedHost = vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}

// pressed is a snapshot of VMs on one host of 10 GHz and 10,000 MB.
func pressed(cpuMHz, memoryMB int64, vms ...vsphere.VM) vsphere.Snapshot {
	return vsphere.Snapshot{Time: now, Scope: clusterA, VMs: vms, Hosts: []vsphere.Host{{
		Ref: pressedHost, Cluster: clusterA, Connected: true, CPUMHz: 10000, CPUUsedMHz: cpuMHz, MemoryMB: 10000, MemoryUsedMB: memoryMB,
	}}}
}

func throttling(percent int) policy.Demand {
	return policy.Demand{Tag: "preemptible", Scope: clusterA, Throttle: &policy.Throttle{CPU: policy.Speed{N: percent, Percent: true}}}
}

func TestAThrottleFreesWhatIsAboveItsLimitAndNoMemory(t *testing.T) {
	p := policy.Default()
	p.Target = policy.Goal{CPU: 80, Margin: 0}
	s := pressed(9500, 5000, vm(1, using(1000, 900)), vm(2, using(1000, 900)), vm(3, using(1000, 900)))
	plan := policy.Choose(s, throttling(25), p)
	if !slices.Equal(names(plan), []string{"batch-1", "batch-2"}) || plan.Partial {
		t.Fatalf("1500 MHz are short, and each VM frees 750: %v, partial %v", names(plan), plan.Partial)
	}
	for _, target := range plan.Targets {
		if target.LimitMHz != 250 || target.CPUMHz != 750 || target.MemoryMB != 0 {
			t.Errorf("%s: limit %d, frees %d MHz and %d MB", target.Name, target.LimitMHz, target.CPUMHz, target.MemoryMB)
		}
	}
	if u := plan.Usage[0]; u.CPU.After != 8000 || u.Memory.After != 5000 {
		t.Errorf("afterwards %d MHz and %d MB are used", u.CPU.After, u.Memory.After)
	}
}

func TestAThrottleIsForCPUAlone(t *testing.T) {
	for name, c := range map[string]struct {
		goal        policy.Goal
		cpu, memory int64
		memoryOnly  bool
		targets     int
		reason      policy.Reason
	}{
		"memory is short":                       {policy.Goal{CPU: 80, Memory: 80}, 5000, 9500, false, 0, policy.FreesNoMemory},
		"only memory has a target":              {policy.Goal{Memory: 80}, 9500, 9500, false, 0, policy.FreesNoMemory},
		"the alarm is about memory, no target":  {policy.Goal{}, 9500, 9500, true, 0, policy.FreesNoMemory},
		"the alarm is about memory, CPU target": {policy.Goal{CPU: 80}, 9000, 9500, true, 2, ""},
		"both are short":                        {policy.Goal{CPU: 80, Memory: 80, IfShort: policy.ShortNone}, 9000, 9500, false, 2, ""},
		"nothing is short":                      {policy.Goal{CPU: 80, Memory: 80}, 7000, 7000, false, 0, policy.NotNeeded},
	} {
		t.Run(name, func(t *testing.T) {
			p, d := policy.Default(), throttling(50)
			p.Target, d.MemoryOnly = c.goal, c.memoryOnly
			plan := policy.Choose(pressed(c.cpu, c.memory, vm(1, using(1000, 900)), vm(2, using(1000, 900))), d, p)
			if len(plan.Targets) != c.targets {
				t.Fatalf("targets: %v, spared: %+v", names(plan), plan.Spared)
			}
			for _, spared := range plan.Spared {
				if spared.Reason != c.reason {
					t.Errorf("%s: %s", spared.Name, spared.Reason)
				}
			}
			if name == "both are short" && (!plan.Partial || plan.Shortfall.MemoryMB != 1500 || plan.Covered.MemoryMB != 0) {
				t.Errorf("the memory is still short: %+v of %+v", plan.Covered, plan.Shortfall)
			}
		})
	}
}

func TestWhomAThrottlePassesBy(t *testing.T) {
	room := throttling(25)
	room.Rooms = []policy.Room{{}}
	mhz := throttling(0)
	mhz.Throttle = &policy.Throttle{CPU: policy.Speed{N: 500}}
	for name, c := range map[string]struct {
		demand policy.Demand
		change func(*vsphere.VM)
		limit  int64 // 0: it is passed by
		reason policy.Reason
	}{
		"a busy VM":                          {throttling(25), func(*vsphere.VM) {}, 500, ""},
		"in MHz":                             {mhz, func(*vsphere.VM) {}, 500, ""},
		"in MHz, one that uses less":         {mhz, func(v *vsphere.VM) { v.CPUMHz = 400 }, 0, policy.FreesNoCPU},
		"a VM with a reservation":            {throttling(25), func(v *vsphere.VM) { v.CPUReservedMHz = 800 }, 800, ""},
		"one that uses its reservation":      {throttling(25), func(v *vsphere.VM) { v.CPUReservedMHz = 2000 }, 0, policy.FreesNoCPU},
		"an idle VM":                         {throttling(25), func(v *vsphere.VM) { v.CPUMHz = 90 }, 0, policy.FreesNoCPU},
		"a VM of which a quarter is too low": {throttling(25), func(v *vsphere.VM) { v.CPUMHz = 200 }, policy.LeastLimitMHz, ""},
		"one that we have throttled":         {throttling(25), func(v *vsphere.VM) { v.CPULimitMHz, v.Throttled = 600, true }, 0, policy.AlreadyThrottled},
		"its owner's limit is lower":         {throttling(25), func(v *vsphere.VM) { v.CPULimitMHz = 400 }, 0, policy.OwnLimit},
		"its owner's limit is higher":        {throttling(25), func(v *vsphere.VM) { v.CPULimitMHz = 2100 }, 500, ""},
		"vCenter does not show its limit":    {throttling(25), func(v *vsphere.VM) { v.LimitUnseen = true }, 0, policy.LimitUnseen},
		"room is demanded":                   {room, func(*vsphere.VM) {}, 0, policy.FreesNoMemory},
		"its tag is off":                     {throttling(25), func(v *vsphere.VM) { v.Tagged = false }, 0, policy.NotTagged},
	} {
		t.Run(name, func(t *testing.T) {
			plan := policy.Choose(pressed(9000, 9000, vm(1, using(2000, 900), c.change)), c.demand, policy.Default())
			switch {
			case c.limit > 0 && (len(plan.Targets) != 1 || plan.Targets[0].LimitMHz != c.limit):
				t.Errorf("targets %+v, spared %+v", plan.Targets, plan.Spared)
			case c.limit == 0 && (len(plan.Spared) != 1 || plan.Spared[0].Reason != c.reason):
				t.Errorf("targets %+v, spared %+v", plan.Targets, plan.Spared)
			}
		})
	}
}

func TestAThrottledVMIsCreditedAlthoughItIsOn(t *testing.T) {
	p := policy.Default()
	p.Target = policy.Goal{CPU: 80, Margin: 0}
	s := pressed(9000, 5000, vm(1, using(1000, 900)), vm(2, using(1000, 900)))
	d := policy.Demand{Tag: "preemptible", Scope: clusterA, Credits: []policy.Credit{
		{VM: vm(1).Ref, At: now.Add(-30 * time.Second), Host: pressedHost, CPUMHz: 1000, StaysOn: true},
	}}
	if plan := policy.Choose(s, d, p); len(plan.Targets) != 0 {
		t.Errorf("%v go besides the throttled one, which has freed what was short", names(plan))
	}
}

func TestASpeedIsWrittenAsItIsRead(t *testing.T) {
	for _, text := range []string{"25%", "500MHz", "1%", "100MHz"} {
		b, err := json.Marshal(policy.Throttle{CPU: speed(t, text)})
		var back policy.Throttle
		if err != nil || json.Unmarshal(b, &back) != nil || back.CPU.String() != text {
			t.Errorf("%s is written as %s, %v", text, b, err)
		}
	}
	for _, text := range []string{"", "25", "MHz", "%", "a%", "500 GHz", "500mhz"} {
		if s, err := policy.ParseSpeed(text); err == nil {
			t.Errorf("%q is read as %s", text, s)
		}
	}
}

func speed(t *testing.T, text string) policy.Speed {
	t.Helper()
	s, err := policy.ParseSpeed(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAThrottleIsValidated(t *testing.T) {
	for name, c := range map[string]struct {
		treatment policy.Treatment
		restore   bool
		want      string // "": it is taken
	}{
		"a quarter":                    {policy.Treatment{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 25, Percent: true}}}, true, ""},
		"in MHz":                       {policy.Treatment{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 500}}}, true, ""},
		"without saying how far":       {policy.Treatment{Action: action.Throttle}, true, "criticality.HIGH.throttle: is missing"},
		"all of it":                    {policy.Treatment{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 100, Percent: true}}}, true, "criticality.HIGH.throttle.cpu: 100 is not within 1 to 99"},
		"to next to nothing":           {policy.Treatment{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 99}}}, true, "criticality.HIGH.throttle.cpu: 99 is not within 100"},
		"with another action":          {policy.Treatment{Action: action.Suspend, Throttle: policy.Throttle{CPU: policy.Speed{N: 500}}}, true, "criticality.HIGH.throttle: belongs to the action throttle only"},
		"nothing takes the limit back": {policy.Treatment{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 500}}}, false, "restore.enabled: must be true"},
	} {
		p := policy.Default()
		p.Criticality.High = c.treatment
		if c.restore {
			p.Restore = policy.DefaultRestore()
			p.Restore.Enabled = true
		}
		if err := p.Validate(); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAThrottleForcesNoGuestOff(t *testing.T) {
	if (policy.Treatment{Action: action.Throttle, ThenForce: true}).Forces() {
		t.Error("a fall to a throttle would cut the power of guests that were asked to shut down")
	}
}
