package chaos

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

var (
	atInstants = flag.Int("chaos.instants", 3, "attack at so many instants on each Temporal; each takes about half a minute")
	only       = flag.String("chaos.only", "", "attack only in the ways that match, such as 'a worker'")
	long       = flag.Bool("chaos.long", false, "the long form of each attack; all of them take about two hours")
	logs       = flag.String("chaos.logs", "", "folder for the logs of all processes")
	onPostgres = flag.Bool("chaos.postgres", false, "attack Temporal on PostgreSQL too, which must be installed")
)

// attack is something that befalls the world at one instant.
type attack struct {
	name string
	do   func(w *world)
}

// attacks are done in turn, each at an instant drawn at random.
var attacks = []attack{
	{"a worker is killed", func(w *world) { w.killWorker(w.random.IntN(len(w.workers))) }},
	{"Temporal is killed", func(w *world) { w.temporal.restart() }},
	{"vCenter drops all connections for seconds", func(w *world) {
		w.vc.DropConnections()
		time.Sleep(w.within(5 * time.Second))
		w.vc.Recover()
	}},
	{"both workers are killed", (*world).replaceWorkers},
	{"the database is killed", func(w *world) { w.temporal.restartDatabase() }},
	{"vCenter answers 503 for seconds", func(w *world) {
		w.vc.Outage()
		time.Sleep(w.within(5 * time.Second))
		w.vc.Recover()
	}},
}

// chosen are the attacks that are asked for.
func chosen(t *testing.T) (list []attack) {
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attacks {
		if wanted.MatchString(a.name) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		t.Fatalf("no attack matches %q", *only)
	}
	return list
}

func (w *world) within(d time.Duration) time.Duration {
	return time.Duration(w.random.Int64N(int64(d)))
}

// TestNothingIsLostWhateverIsKilled attacks the released programs at random instants of preemptions and of the restores
// that follow them. After each, everything is as reported, without a restart by hand.
func TestNothingIsLostWhateverIsKilled(t *testing.T) {
	on := map[string]func(*testing.T) temporal{"SQLite": startSQLite}
	if *onPostgres {
		on["PostgreSQL"] = startPostgreSQL
	}
	for name, start := range on {
		t.Run("on "+name, func(t *testing.T) {
			w := newWorld(t, seeded(t), site{temporal: start, tagged: enough(*atInstants)})
			w.besiege("on "+name, *atInstants, chosen(t))
		})
	}
}

// seeded draws the instants of a test.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("CHAOS_SEED=%d repeats the instants", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// sized is how often a test attacks in short, or in long.
func sized(short, more int) int {
	if *long {
		return more
	}
	return short
}

// enough is how many VMs of a cluster may go, so that at so many instants none is preempted too often for a restore.
func enough(instants int) int { return max(5, maxVMs*instants/(tooOften-1)+1) }

// besieged is what the attacks of one kind cost.
type besieged struct {
	instants, off int
	recovery      []time.Duration // from the attack until the last VM was off and reported, or on and marked
}

func (w *world) besiege(name string, instants int, attacks []attack) {
	figures := map[string]*besieged{}
	rounds, violations := 0, 0
	for i := range instants {
		a := attacks[i%len(attacks)]
		f := figures[a.name]
		if f == nil {
			f = &besieged{}
			figures[a.name] = f
		}
		phase := "preemption"
		if (i%len(attacks)+i/len(attacks))%2 == 1 { // each attack comes in each phase
			phase = "restore"
		}
		wrong, n, off, took := w.instant(a, phase)
		rounds, violations = rounds+n, violations+len(wrong)
		if off == 0 {
			w.t.Errorf("instant %d: no VM went off, so it tests nothing", i+1)
		}
		f.instants, f.off, f.recovery = f.instants+1, f.off+off, append(f.recovery, took)
		for _, v := range wrong {
			w.t.Errorf("instant %d, %s during the %s: %s", i+1, a.name, phase, v)
		}
		fmt.Fprintf(w.t.Output(), "%s, instant %d of %d: %s during the %s: %d VMs off, in order after %.1f s\n", name, i+1, instants, a.name, phase, off, took.Seconds())
	}
	fmt.Fprintf(w.t.Output(), "\n| %s | instants | VMs off | in order after: median | worst |\n| --- | --- | --- | --- | --- |\n", name)
	for _, a := range attacks {
		if f := figures[a.name]; f != nil {
			slices.Sort(f.recovery)
			fmt.Fprintf(w.t.Output(), "| %s | %d | %d | %.1f s | %.1f s |\n", a.name, f.instants, f.off,
				f.recovery[len(f.recovery)/2].Seconds(), f.recovery[len(f.recovery)-1].Seconds())
		}
	}
	fmt.Fprintf(w.t.Output(), "%d rounds, **%d violations**\n", rounds, violations)
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	for _, bad := range w.sink.bad {
		w.t.Error(bad)
	}
	if told := len(w.sink.seen); told < rounds {
		w.t.Errorf("%d events came of %d rounds", told, rounds)
	}
}

// instant lets the alarm rise on all clusters and fall again, attacks at a random instant of the phase, and judges.
// It returns what must not be, how many rounds there were, how many VMs were off, and after what time all was in order.
func (w *world) instant(a attack, phase string) (violations []string, rounds, off int, took time.Duration) {
	before, began := w.attributes(), time.Now().Add(-time.Second)
	at := time.Time{}
	strike := func(now bool) {
		if now {
			time.Sleep(w.within(6 * time.Second)) // the watch reads events each second; a notice and a guest take seconds
			at = time.Now()
			a.do(w)
		}
	}
	for _, c := range w.clusters() {
		w.turn(c, []string{"yellow", "red"}[w.random.IntN(2)])
		time.Sleep(w.within(300 * time.Millisecond))
	}
	strike(phase == "preemption")
	w.eventually("a round on each cluster is over", func() error {
		all, err := w.rounds(began)
		if err != nil {
			return err
		}
		for _, c := range w.clusters() {
			if len(all[c.Ref.Value]) == 0 {
				return fmt.Errorf("there is none on %s", c.Name)
			}
		}
		took = time.Since(at)
		violations, off = w.judge(before, all)
		rounds = 0
		for _, rs := range all {
			rounds += len(rs)
		}
		return nil
	})
	for _, c := range w.clusters() {
		w.turn(c, "green")
	}
	strike(phase == "restore")
	w.eventually("everybody is back", w.back)
	if phase == "restore" {
		took = time.Since(at)
	}
	return violations, rounds, off, took
}
