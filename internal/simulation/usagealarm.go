package simulation

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// UsageAlarm is an alarm on the CPU usage of a cluster, of which vCenter itself changes the colour.
type UsageAlarm struct {
	Name        string
	Cluster     string        // by its name
	Yellow, Red int32         // percent above which the alarm has the colour
	Tolerance   float64       // percentage points by which the usage must be below a threshold before the alarm falls, and
	Falls       time.Duration // for how long
	Every       time.Duration // between two looks at the usage
	// Changed is told of each change that was posted, and of the usage in percent at that moment; nil: nobody is.
	Changed func(c AlarmChange, cpuPercent float64)
}

// Gauge watches the usage of one cluster for an alarm. Its methods may be called from any goroutine.
type Gauge struct {
	vcenter *VCenter
	alarm   UsageAlarm
	cluster Cluster

	mu     sync.Mutex
	colour string
	held   string    // the colour that somebody has set; "": the usage decides
	below  time.Time // since when the usage is that of a better colour; zero: it is not
	err    error     // of the last look
}

// GaugeAlarm defines the alarm, green, and changes its colour as the usage of the cluster rises and falls, until Close.
func (v *VCenter) GaugeAlarm(a UsageAlarm) (*Gauge, error) {
	c := v.Cluster(a.Cluster)
	switch {
	case c.Name == "":
		return nil, fmt.Errorf("gauge alarm %q on cluster %q: the simulated vCenter has none of that name; Inventory lists them", a.Name, a.Cluster)
	case a.Name == "" || a.Yellow <= 0 || a.Red <= a.Yellow || a.Every <= 0:
		return nil, fmt.Errorf("gauge alarm %q on %s at %d %% and %d %%: it needs a name, a threshold for yellow, a higher one for red, and an interval",
			a.Name, a.Cluster, a.Yellow, a.Red)
	}
	if err := v.setThresholds(a.Name, "ClusterComputeResource", CounterCPU, a.Yellow, a.Red); err != nil {
		return nil, err
	}
	g := &Gauge{vcenter: v, alarm: a, cluster: c, colour: green}
	if !v.begin() {
		return nil, fmt.Errorf("gauge alarm %q on %s: the simulated vCenter is closed", a.Name, a.Cluster)
	}
	go func() {
		defer v.work.Done()
		for v.sleep(a.Every) {
			g.look()
		}
	}()
	return g, nil
}

// The colours of a gauged alarm.
const (
	green  = "green"
	yellow = "yellow"
	red    = "red"
)

// Colour is the alarm's colour now, and whether somebody holds it.
func (g *Gauge) Colour() (colour string, held bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.colour, g.held != ""
}

// Hold gives the alarm a colour whatever the usage is, until Release.
func (g *Gauge) Hold(colour string) error {
	if !isColour(colour) {
		return fmt.Errorf("hold alarm %q at %q: the colours are green, yellow, red and gray", g.alarm.Name, colour)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = colour
	return g.turn(colour)
}

// Release turns the alarm green. From then on the usage decides again.
func (g *Gauge) Release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held, g.below = "", time.Time{}
	return g.turn(green)
}

// Err is what was wrong with the last look at the usage.
func (g *Gauge) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// look changes the colour where the usage says so: for the worse at once, for the better when it stays so.
func (g *Gauge) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != "" {
		return
	}
	cpu, _ := g.vcenter.UsageOf(g.cluster.Ref)
	worse, better := g.at(cpu, 0), g.at(cpu, g.alarm.Tolerance)
	switch {
	case severity(worse) > severity(g.colour):
		g.below = time.Time{}
		g.err = g.turn(worse)
	case severity(better) >= severity(g.colour):
		g.below = time.Time{}
	case g.below.IsZero():
		g.below = time.Now()
	case time.Since(g.below) >= g.alarm.Falls:
		g.below = time.Time{}
		g.err = g.turn(better)
	}
}

// at is the colour at a usage, with the thresholds lowered by some percentage points.
func (g *Gauge) at(cpu, lowered float64) string {
	switch {
	case cpu > float64(g.alarm.Red)-lowered:
		return red
	case cpu > float64(g.alarm.Yellow)-lowered:
		return yellow
	}
	return green
}

func severity(colour string) int {
	return map[string]int{yellow: 1, red: 2}[colour]
}

// turn posts the change of the colour, if it is one; the caller holds the lock.
func (g *Gauge) turn(to string) error {
	if to == g.colour {
		return nil
	}
	c := AlarmChange{Name: g.alarm.Name, Entity: g.cluster.Ref, From: g.colour, To: to}
	if _, err := g.vcenter.PostAlarm(context.Background(), c); err != nil {
		return err
	}
	g.colour = to
	if g.alarm.Changed != nil {
		cpu, _ := g.vcenter.UsageOf(g.cluster.Ref)
		g.alarm.Changed(c, cpu)
	}
	return nil
}
