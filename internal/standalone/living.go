package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// The alarm of the demo, as vCenter defines it, and how often the load moves and vCenter looks at it.
const (
	alarmYellow    = 80
	alarmRed       = 90
	alarmTolerance = 3.0
	alarmFalls     = 4 * time.Second // so that a round is over before the alarm is
	alarmLooks     = 500 * time.Millisecond
	loadMoves      = 500 * time.Millisecond
	livingLooks    = 500 * time.Millisecond // at the VMs
)

// living is the demo after its scenario: the load of its clusters rises and falls, and the alarm with it.
type living struct {
	*stack
	began    time.Time
	clusters []*livingCluster

	mu    sync.Mutex
	cut   *time.Timer // ends the outage of vCenter; nil: none is timed
	away  bool        // vCenter is cut off
	until time.Time   // when it comes back; zero: an order must bring it back
}

// livingCluster is one of its clusters.
type livingCluster struct {
	name  string
	day   day
	idle  []types.ManagedObjectReference // VMs that were off when the demo began to live, and take no part
	gauge *simulation.Gauge

	mu     sync.Mutex
	held   int     // percent that an order said; 0: the day decides
	demand float64 // percent, as last set
	failed bool    // the load or the alarm could not be moved, and that was said
}

// newLiving lets the simulated vCenter watch the usage of its clusters.
func newLiving(s *stack) (*living, error) {
	l := &living{stack: s, began: time.Now()}
	for _, c := range []*livingCluster{{name: contended, day: workingDay}, {name: other, day: eveningDay}} {
		for _, vm := range s.vcenter.Cluster(c.name).VMs {
			if s.vcenter.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
				c.idle = append(c.idle, vm.Ref)
			}
		}
		l.move(c)
		gauge, err := s.vcenter.GaugeAlarm(simulation.UsageAlarm{
			Name: alarmName, Cluster: c.name, Yellow: alarmYellow, Red: alarmRed, Tolerance: alarmTolerance, Falls: alarmFalls, Every: alarmLooks,
			Changed: func(ch simulation.AlarmChange, cpu float64) {
				l.out.say("alarm", "%s on %s: %s to %s, at %.0f %% CPU", ch.Name, c.name, ch.From, ch.To, cpu)
			},
		})
		if err != nil {
			return nil, err
		}
		c.gauge = gauge
		l.clusters = append(l.clusters, c)
	}
	return l, nil
}

// run lets the demo live until ctx ends.
func (l *living) run(ctx context.Context) {
	defer clock.Every(loadMoves, func() {
		for _, c := range l.clusters {
			l.move(c)
		}
	})()
	seen := newObserver(l.vcenter, l.out)
	seen.brief = true
	defer seen.watch(livingLooks)()
	l.out.say("load", "rises and falls from now on: a day takes %s, it is %s; the alarm follows the usage, and rounds relieve it",
		time.Duration(float64(dayLasts)/l.speed).Round(time.Second), timeOfDay(l.hour()))
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unplan()
	}()
	newMoments(l.stack, l.began).tell(ctx)
}

// hour is the time of the simulated day.
func (l *living) hour() float64 { return hourAfter(time.Since(l.began), l.speed) }

// move gives the cluster the load of this moment.
func (l *living) move(c *livingCluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.demand = c.day.at(l.hour(), c.name)
	if c.held > 0 {
		c.demand = float64(c.held)
	}
	memory := otherMemory + (c.demand-otherMemory)/8 // which follows CPU from afar
	err := l.vcenter.SetClusterDemand(c.name, c.demand, memory, c.idle...)
	if c.gauge != nil { // not before the first move
		err = errors.Join(err, c.gauge.Err())
	}
	if err != nil && !c.failed {
		l.out.say("failed", "%s", oneLine(err))
	}
	c.failed = err != nil
}

// hold gives the cluster a load that stays; 0 lets the day decide again.
func (l *living) hold(c *livingCluster, percent int) {
	c.mu.Lock()
	c.held = percent
	c.mu.Unlock()
	l.move(c)
}

// cluster finds a cluster by its name; "" is the first.
func (l *living) cluster(name string) (*livingCluster, error) {
	var names []string
	for _, c := range l.clusters {
		if name == "" || name == c.name {
			return c, nil
		}
		names = append(names, c.name)
	}
	return nil, fmt.Errorf("the demo has no cluster %q; it has %s", name, strings.Join(names, " and "))
}

// cutOff has vCenter reset every connection, for a time or, with 0, until comeBack. It reports whether it was not cut off already.
func (l *living) cutOff(lasts time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return false
	}
	l.unplan()
	l.level.Set(silence) // what the worker complains of meanwhile is what was asked for
	l.vcenter.DropConnections()
	l.away = true
	if lasts > 0 {
		var end *time.Timer
		end = time.AfterFunc(lasts, func() { l.comeBack(func() bool { return l.cut == end }) })
		l.cut, l.until = end, time.Now().Add(lasts)
	}
	l.out.say("vCenter", "is cut off: it resets every connection")
	return true
}

// comeBack ends the outage, and reports whether there was one; only is called with the lock held, and prevents it.
func (l *living) comeBack(only func() bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.away || !only() {
		return false
	}
	l.unplan()
	l.away = false
	l.vcenter.Recover()
	l.level.Set(slog.LevelWarn)
	l.out.say("vCenter", "is back")
	return true
}

// unplan forgets when vCenter was to come back; the caller holds the lock.
func (l *living) unplan() {
	if l.cut != nil {
		l.cut.Stop()
	}
	l.cut, l.until = nil, time.Time{}
}

// reachable reports whether vCenter can be reached, and otherwise when it can be again.
func (l *living) reachable() (is bool, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.away, l.until
}
