package standalone

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
)

// killedFor is how long after a kill another worker starts, unless an order says otherwise.
const killedFor = 5 * time.Second

// knobs carries out the orders of preemptctl demo.
type knobs struct {
	*living
	ctx context.Context // of the demo: what an order starts outlives its request
}

// turn carries out one order, and says what it did.
func (k *knobs) turn(o demoapi.Order) (a demoapi.Answer, err error) {
	switch o.Knob {
	case demoapi.KnobStatus:
		a.Done = "the demo runs"
	case demoapi.KnobAlarm:
		a, err = k.setAlarm(o)
	case demoapi.KnobLoad:
		a, err = k.setLoad(o)
	case demoapi.KnobKill:
		a, err = k.killWorker(o)
	case demoapi.KnobCut:
		a, err = k.cutVCenter(o)
	case demoapi.KnobBack:
		a, err = k.bringVCenterBack()
	default:
		err = refuse(http.StatusBadRequest, "the demo has no knob %q: its version is not that of preemptctl", o.Knob)
	}
	if err != nil {
		return demoapi.Answer{}, err
	}
	a.Status = k.status()
	return a, nil
}

// setAlarm gives the alarm a colour that stays, or with green lets the usage decide again.
func (k *knobs) setAlarm(o demoapi.Order) (a demoapi.Answer, err error) {
	c, err := k.named(o.On)
	if err != nil {
		return a, err
	}
	cpu, _ := k.vcenter.Usage(c.name)
	switch o.Colour {
	case alarm.Green:
		a.Done = fmt.Sprintf("alarm %s on %s is green, and follows the usage again: yellow above %d %%, red above %d %%", alarmName, c.name, alarmYellow, alarmRed)
		if cpu > alarmYellow {
			a.Next = fmt.Sprintf("%s is at %.0f %% CPU, so the alarm rises again at once; calm it first: preemptctl demo load 40 --on %s", c.name, cpu, c.name)
		} else {
			a.Next = "see who comes back: preemptctl workflow list"
		}
		return a, c.gauge.Release()
	case alarm.Yellow, alarm.Red:
	default:
		return a, refuse(http.StatusBadRequest, "%q is no colour of an alarm: give red, yellow or green", o.Colour)
	}
	a.Done = fmt.Sprintf("alarm %s on %s is %s, and stays so until: preemptctl demo alarm green --on %s", alarmName, c.name, o.Colour, c.name)
	a.Next = "see the round that it starts: preemptctl workflow list"
	if goal := k.policies()["default"].Target; goal.CPU > 0 && cpu <= float64(goal.CPU-goal.Margin) {
		target := goal.CPU - goal.Margin // as the plan of a round says it
		a.Next = fmt.Sprintf("%s is at %.0f %% CPU, not above the target of %d %%, so a round chooses no VM; to see one choose: preemptctl demo load 95 --on %s", c.name, cpu, target, c.name)
	}
	return a, c.gauge.Hold(o.Colour)
}

// setLoad sets what the VMs of a cluster ask for.
func (k *knobs) setLoad(o demoapi.Order) (a demoapi.Answer, err error) {
	c, err := k.named(o.On)
	if err != nil {
		return a, err
	}
	if o.Percent != 0 && (o.Percent < demoapi.LeastLoad || o.Percent > demoapi.MostLoad) {
		return a, refuse(http.StatusBadRequest, "a load of %d %% is not within %d to %d", o.Percent, demoapi.LeastLoad, demoapi.MostLoad)
	}
	k.hold(c, o.Percent)
	cpu, _ := k.vcenter.Usage(c.name)
	if o.Percent == 0 {
		a.Done = fmt.Sprintf("the load of %s follows the simulated day again: it is %s, and %s is at %.0f %% CPU", c.name, timeOfDay(k.hour()), c.name, cpu)
		a.Next = "see it move: preemptctl demo status"
		return a, nil
	}
	a.Done = fmt.Sprintf("the VMs of %s ask for %d %% of its CPU until: preemptctl demo load auto --on %s; it is at %.0f %%, with those that are off", c.name, o.Percent, c.name, cpu)
	a.Next = fmt.Sprintf("the alarm is yellow above %d %% and red above %d %%, and a round relieves the cluster: preemptctl demo status", alarmYellow, alarmRed)
	if o.Percent <= alarmYellow {
		a.Next = "when the alarm is green, VMs that were preempted come back: preemptctl demo status"
	}
	return a, nil
}

// killWorker ends the worker, and has another one start.
func (k *knobs) killWorker(o demoapi.Order) (a demoapi.Answer, err error) {
	lasts, err := lasting(o.For.D(), killedFor)
	if err != nil {
		return a, err
	}
	next, killed := k.crew.kill(k.ctx, lasts)
	if !killed {
		return a, refuse(http.StatusConflict, "the worker is dead already; another one starts at %s", next.Format(time.TimeOnly))
	}
	a.Done = fmt.Sprintf("the worker is cut off from Temporal and vCenter in the middle of its work, and tells nobody; "+
		"it is a part of the demo's process, which goes on. Another worker starts in %s", lasts)
	a.Next = "what is under way waits, and goes on with the next worker: preemptctl workflow list, preemptctl demo status"
	return a, nil
}

// cutVCenter has vCenter reset all connections.
func (k *knobs) cutVCenter(o demoapi.Order) (a demoapi.Answer, err error) {
	lasts, err := lasting(o.For.D(), 0)
	if err != nil {
		return a, err
	}
	if !k.cutOff(lasts) {
		back := "it comes back by: preemptctl demo vcenter back"
		if _, until := k.reachable(); !until.IsZero() {
			back = "it comes back at " + until.Format(time.TimeOnly) + ", or by: preemptctl demo vcenter back"
		}
		return a, refuse(http.StatusConflict, "vCenter is cut off already; %s", back)
	}
	a.Done = "vCenter resets every connection until: preemptctl demo vcenter back"
	if lasts > 0 {
		a.Done = fmt.Sprintf("vCenter resets every connection for %s", lasts)
	}
	a.Next = "raise an alarm, and see that it is not lost: preemptctl demo alarm red, preemptctl workflow list"
	return a, nil
}

// bringVCenterBack ends what cutVCenter began.
func (k *knobs) bringVCenterBack() (a demoapi.Answer, err error) {
	if !k.comeBack(func() bool { return true }) {
		return a, refuse(http.StatusConflict, "vCenter is not cut off: there is nothing to bring back")
	}
	a.Done = "vCenter answers again"
	a.Next = "what has waited goes on: preemptctl workflow list"
	return a, nil
}

// lasting checks how long something is to last; 0 is as usual.
func lasting(d, usual time.Duration) (time.Duration, error) {
	if d == 0 {
		return usual, nil
	}
	if d < demoapi.LeastFor || d > demoapi.MostFor {
		return 0, refuse(http.StatusBadRequest, "%s is not within %s to %s", d, demoapi.LeastFor, demoapi.MostFor)
	}
	return d, nil
}

// named finds a cluster.
func (k *knobs) named(on string) (*livingCluster, error) {
	c, err := k.cluster(on)
	if err != nil {
		return nil, refuse(http.StatusNotFound, "%s", err)
	}
	return c, nil
}

// status is how the demo stands.
func (k *knobs) status() demoapi.Status {
	s := demoapi.Status{Temporal: k.temporal.HostPort(), Console: k.consoled, Speed: k.speed, Day: timeOfDay(k.hour())}
	s.VCenter.Up, s.VCenter.Until = k.reachable()
	s.Worker.Up, s.Worker.Until = k.crew.up()
	for _, c := range k.clusters {
		s.Clusters = append(s.Clusters, k.statusOf(c))
	}
	return s
}

func (k *knobs) statusOf(c *livingCluster) demoapi.Cluster {
	c.mu.Lock()
	s := demoapi.Cluster{Name: c.name, Demand: c.demand, Held: c.held > 0}
	c.mu.Unlock()
	s.CPU, _ = k.vcenter.Usage(c.name)
	s.Alarm, s.Pinned = c.gauge.Colour()
	for _, vm := range states(k.vcenter) {
		if vm.Cluster == c.name && vm.Attribute != "" && vm.Power != types.VirtualMachinePowerStatePoweredOn {
			s.Off++
		}
	}
	return s
}
