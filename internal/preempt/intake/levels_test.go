package intake

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

var t0 = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// change is the alarm on one host turning a colour at a second.
func change(host string, second int, to string) preemptapi.Change {
	return preemptapi.Change{
		Alarm: "cpu", Entity: "HostSystem:" + host, Scope: "ClusterComputeResource:c1", To: to,
		Time: t0.Add(time.Duration(second) * time.Second), EventKey: int64(second + 1),
	}
}

func TestLevels(t *testing.T) {
	type step struct {
		c    preemptapi.Change
		from string
		want Shift
	}
	cases := map[string][]step{
		"a rise acts": {{change("h1", 1, alarm.Red), alarm.Green, ShiftRise}},
		"yellow then red rises twice": {
			{change("h1", 1, alarm.Yellow), alarm.Green, ShiftRise}, {change("h1", 2, alarm.Red), alarm.Yellow, ShiftRise},
		},
		"a second host's red adds nothing": {
			{change("h1", 1, alarm.Red), alarm.Green, ShiftRise}, {change("h2", 2, alarm.Red), alarm.Green, ShiftNone},
		},
		"one host's green does not undo another host's red": {
			{change("h1", 1, alarm.Red), alarm.Green, ShiftRise},
			{change("h2", 2, alarm.Red), alarm.Green, ShiftNone},
			{change("h1", 3, alarm.Green), alarm.Red, ShiftNone},
			{change("h2", 4, alarm.Green), alarm.Red, ShiftFall},
		},
		"red to yellow falls": {
			{change("h1", 1, alarm.Red), alarm.Yellow, ShiftRise}, {change("h1", 2, alarm.Yellow), alarm.Red, ShiftFall},
		},
		"a redelivered event changes nothing": {
			{change("h1", 1, alarm.Red), alarm.Green, ShiftRise}, {change("h1", 1, alarm.Red), alarm.Green, ShiftNone},
		},
		"a late red that is older than a seen green changes nothing": {
			{change("h1", 5, alarm.Green), alarm.Red, ShiftNone}, {change("h1", 1, alarm.Red), alarm.Green, ShiftNone},
		},
		"a red that follows a green nobody told us of rises again": {
			{change("h1", 1, alarm.Red), alarm.Green, ShiftRise}, {change("h1", 9, alarm.Red), alarm.Green, ShiftRise},
		},
		"gray holds, and red after it is no new rise": {
			{change("h1", 1, alarm.Red), alarm.Green, ShiftRise},
			{change("h1", 2, alarm.Gray), alarm.Red, ShiftGray},
			{change("h1", 3, alarm.Red), alarm.Gray, ShiftNone},
		},
		"green after gray falls": {
			{change("h1", 1, alarm.Red), alarm.Green, ShiftRise},
			{change("h1", 2, alarm.Gray), alarm.Red, ShiftGray},
			{change("h1", 3, alarm.Green), alarm.Gray, ShiftFall},
		},
		"gray of what was never up means nothing": {{change("h1", 1, alarm.Gray), alarm.Green, ShiftNone}},
	}
	for name, steps := range cases {
		t.Run(name, func(t *testing.T) {
			var l Levels
			for i, s := range steps {
				if got := l.Apply(s.c, s.from, rankOf(s.c.To)); got != s.want {
					t.Fatalf("step %d (%s to %s): %s, want %s", i, s.c.Entity, s.c.To, got, s.want)
				}
			}
		})
	}
}

func rankOf(colour string) int { return colourCriticality(colour).Rank() }

func TestGrayCountsAsFallenAfterItsTimeout(t *testing.T) {
	var l Levels
	l.Apply(change("h1", 1, alarm.Red), alarm.Green, 3)
	l.Apply(change("h1", 2, alarm.Gray), alarm.Red, 0)
	if !l.AllGray("ClusterComputeResource:c1") {
		t.Fatal("the scope is not all unknown")
	}
	end, ok := l.GrayEnd(time.Minute)
	if !ok || !end.Equal(t0.Add(62*time.Second)) {
		t.Fatalf("it ends at %s, %v", end, ok)
	}
	if fallen := l.ExpireGray(end.Add(-time.Second), time.Minute); len(fallen) != 0 {
		t.Errorf("fell too early: %v", fallen)
	}
	if fallen := l.ExpireGray(end, time.Minute); len(fallen) != 1 || l.Highest("ClusterComputeResource:c1") != 0 {
		t.Errorf("did not fall: %v", fallen)
	}
}

// The order in which a broker delivers does not matter for where the levels end: the newest change of
// each entity counts.
func TestLevelsEndTheSameInAnyOrderOfDelivery(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var changes []preemptapi.Change
		for i := range rapid.IntRange(1, 12).Draw(t, "n") {
			host := rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "host")
			colour := rapid.SampledFrom([]string{alarm.Green, alarm.Yellow, alarm.Red}).Draw(t, "colour")
			changes = append(changes, change(host, i, colour))
		}
		apply := func(list []preemptapi.Change) int {
			var l Levels
			for _, c := range list {
				l.Apply(c, alarm.Green, rankOf(c.To))
			}
			return l.Highest("ClusterComputeResource:c1")
		}
		want := apply(changes)
		if got := apply(rapid.Permutation(changes).Draw(t, "order")); got != want {
			t.Fatalf("highest %d, in order %d", got, want)
		}
	})
}

func TestLevelsAreBounded(t *testing.T) {
	var l Levels
	l.Apply(change("up", 0, alarm.Red), alarm.Green, 3)
	for i := range maxLevels + 50 {
		c := change("h", i, alarm.Green)
		c.Entity = c.Entity + t0.Add(time.Duration(i)).String()
		l.Apply(c, alarm.Red, 0)
	}
	if len(l.Entities) > maxLevels {
		t.Errorf("%d entities are remembered", len(l.Entities))
	}
	if l.Highest("ClusterComputeResource:c1") != 3 {
		t.Error("the one in alarm was forgotten")
	}
}

// What looks at every entity for every change takes some two hundred times as long.
func TestManyEntitiesInAlarmAreQuick(t *testing.T) {
	var l Levels
	start := time.Now()
	for i := range 20 * maxLevels {
		c := change("h", i, []string{alarm.Red, alarm.Yellow}[i/maxLevels%2])
		c.Entity += strconv.Itoa(i % maxLevels)
		l.Apply(c, alarm.Green, 2+i%2)
	}
	if up := len(l.Active()); up != maxLevels {
		t.Errorf("%d entities stand, want %d", up, maxLevels)
	}
	l.ClearScope("ClusterComputeResource:c1")
	if l.Highest("ClusterComputeResource:c1") != 0 {
		t.Error("the scope did not fall")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("%d changes took %s", 20*maxLevels, took)
	} else {
		t.Log(took)
	}
}

// However the entities got there, what the index says is what a look at all says.
func TestTheHighestLevelIsThatOfALookAtAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Levels
		for i := range rapid.IntRange(1, 60).Draw(t, "n") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				l.Clear()
			case 1:
				l.ClearScope("ClusterComputeResource:c1")
			case 2:
				l.ExpireGray(t0.Add(time.Hour), time.Minute)
			case 3:
				l = Levels{Entities: slices.Clone(l.Entities)} // a new run
			default:
				c := change(rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "host"), i, rapid.SampledFrom([]string{alarm.Green, alarm.Yellow, alarm.Red, alarm.Gray}).Draw(t, "colour"))
				l.Apply(c, alarm.Green, rankOf(c.To))
			}
			want := 0
			for _, e := range l.Entities {
				want = max(want, e.Rank)
			}
			if got := l.Highest("ClusterComputeResource:c1"); got != want {
				t.Fatalf("the highest is %d, of a look at all %d", got, want)
			}
		}
	})
}
