package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
)

// changing are vCenter's calls by which a preemption or a restore changes something.
var changing = []string{"PowerOffVM_Task", "ShutdownGuest", "ReconfigVM_Task", "PowerOnMultiVM_Task", "PowerOnVM_Task", "SetField"}

// unreliable lets 30 of 100 calls that change something fail: in 10 vCenter refuses the call, in 5 it has forgotten the
// session, and in 15 it does what it was asked to do, and its answer is lost. No call fails in two ways: of one that is refused and
// whose refusal is lost nobody can tell until its time is over. What is refused three times in a row has failed, rightly, and no
// VM is to fail here: after two refusals the same call about the same object is taken.
func (w *world) unreliable() (calls, failed *atomic.Int64) {
	calls, failed = new(atomic.Int64), new(atomic.Int64)
	var lost sync.Map // calls whose answer will be lost, by method and object
	var mu sync.Mutex
	refused := map[string]int{} // in a row, by method and object
	for _, method := range changing {
		w.vc.Hook(method, func(ref types.ManagedObjectReference) {
			calls.Add(1)
			call, n := method+ref.Value, rand.IntN(100)
			if _, armed := lost.LoadAndDelete(call); armed {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			before := refused[call]
			refused[call] = 0
			switch {
			case n < 10 && before == step.Tries-1:
				return
			case n < 10:
				refused[call] = before + 1
				w.vc.FailCall(method, &ref, []types.BaseMethodFault{&types.TaskInProgress{}, &types.SystemError{}}[n%2], 1)
			case n < 15:
				w.vc.FailCall(method, &ref, &types.NotAuthenticated{}, 1)
			case n < 30:
				lost.Store(call, true)
				w.vc.LoseAnswer(method, &ref, 1) // to the next call about it
			default:
				return
			}
			failed.Add(1)
		})
	}
	return calls, failed
}

// TestNothingIsLostWhileCallsOfVCenterFail preempts and restores while 30 of 100 calls that change something fail. In the
// long form workers are killed besides.
func TestNothingIsLostWhileCallsOfVCenterFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, seeded(t), site{temporal: startSQLite, tagged: enough(sized(2, 25))})
	calls, failed := w.unreliable()
	killed := []attack{{"30 % of the calls fail", func(*world) {}}}
	if *long {
		killed = append(killed, attack{"30 % of the calls fail, a worker is killed", attacks[0].do})
	}
	w.besiege("unreliable vCenter", sized(2, 25), killed)
	fmt.Fprintf(t.Output(), "%d of %d calls that change something failed\n", failed.Load(), calls.Load())
	if failed.Load()*8 < calls.Load() {
		t.Errorf("%d of %d calls failed, which tests little", failed.Load(), calls.Load())
	}
}

// vcenterAttacks are what befalls vCenter.
var vcenterAttacks = []attack{
	{"vCenter hangs for seconds", func(w *world) {
		w.vc.SetLatency(8 * time.Second)
		time.Sleep(w.within(5 * time.Second))
		w.vc.SetLatency(latency)
	}},
	{"its sessions end again and again", func(w *world) {
		for range 5 {
			w.must(w.vc.TerminateSessions())
			time.Sleep(w.within(time.Second))
		}
	}},
	{"its password changes, and the secret does later", func(w *world) {
		w.vc.SetPassword(fmt.Sprint("changed-", w.random.Int()))
		w.must(w.vc.TerminateSessions())
		time.Sleep(w.within(5 * time.Second))
		w.must(w.vc.WriteSecret(w.secret))
	}},
	{"its clock jumps forward and back", func(w *world) {
		w.clockJumps = true
		w.vc.SetClock(time.Duration(1+w.random.IntN(120)) * time.Minute)
		time.Sleep(w.within(5 * time.Second))
		w.vc.SetClock(0)
	}},
	{"it answers slowly", func(w *world) {
		w.vc.SetLatency(time.Second)
		time.Sleep(w.within(10 * time.Second))
		w.vc.SetLatency(latency)
	}},
	{"its certificate changes, and the file of the trusted one does later", func(w *world) {
		w.must(w.vc.RenewCertificate())
		w.must(w.vc.TerminateSessions())
		time.Sleep(w.within(5 * time.Second))
		w.trust()
	}},
	{"its clock jumps back and forth", func(w *world) {
		w.clockJumps = true
		w.vc.SetClock(-time.Duration(1+w.random.IntN(120)) * time.Minute)
		time.Sleep(w.within(5 * time.Second))
		w.vc.SetClock(0)
	}},
	{"it restarts and forgets its tasks", func(w *world) { w.must(w.vc.RestartLosingTasks()) }},
}

// TestNothingIsLostWhateverVCenterDoes attacks vCenter in each way that it may fail, in the middle of preemptions and
// restores. Workers trust it by a file, and learn of its new certificate and password without a restart.
func TestNothingIsLostWhateverVCenterDoes(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	w := newWorld(t, seeded(t), site{temporal: startSQLite, tagged: enough(sized(2, 5*len(vcenterAttacks))), worker: func(w *world, _ int, cmd *exec.Cmd) {
		if w.ca == "" {
			w.ca = ca
			w.trust()
		}
		cmd.Env = append(slices.DeleteFunc(cmd.Env, func(e string) bool { return strings.HasPrefix(e, "VCENTER_INSECURE=") }), "VCENTER_CA_FILE="+ca)
	}})
	if *long {
		w.besiege("vCenter", 5*len(vcenterAttacks), vcenterAttacks)
		return
	}
	w.besiege("vCenter", 2, []attack{
		{"vCenter hangs and restarts, its password and certificate change", func(w *world) {
			for _, i := range []int{0, 7, 2, 5} {
				vcenterAttacks[i].do(w)
			}
		}},
		{"vCenter's clock jumps, sessions end, it answers slowly", func(w *world) {
			for _, i := range []int{3, 6, 1, 4} {
				vcenterAttacks[i].do(w)
			}
		}},
	})
}

// awayAttacks are how vCenter may be away for minutes.
var awayAttacks = []attack{
	{"vCenter drops all connections for 1 to 2 minutes", func(w *world) {
		w.vc.DropConnections()
		time.Sleep(time.Minute + w.within(time.Minute))
		w.vc.Recover()
	}},
	{"vCenter answers 503 for 2 to 4 minutes", func(w *world) {
		w.vc.Outage()
		time.Sleep(2*time.Minute + w.within(2*time.Minute))
		w.vc.Recover()
	}},
	{"vCenter hangs for 1 to 2 minutes", func(w *world) {
		w.vc.SetLatency(time.Minute)
		time.Sleep(time.Minute + w.within(time.Minute))
		w.vc.SetLatency(latency)
	}},
	{"vCenter is stopped for 10 minutes", func(w *world) {
		w.must(w.vc.Stop())
		time.Sleep(10 * time.Minute)
		w.must(w.vc.Restart())
	}},
}

// TestNothingIsLostWhileVCenterIsAwayForMinutes takes vCenter away in the middle of preemptions and of restores. Its workers
// wait, and continue by themselves.
func TestNothingIsLostWhileVCenterIsAwayForMinutes(t *testing.T) {
	if !*long {
		t.Skip("it takes half an hour: -chaos.long; other attacks take vCenter away for seconds")
	}
	t.Parallel()
	instants := 2 * len(awayAttacks)
	w := newWorld(t, seeded(t), site{temporal: startSQLite, tagged: enough(instants)})
	w.besiege("vCenter is away", instants, awayAttacks)
}

// trust writes the file of the certificate that workers trust.
func (w *world) trust() { w.must(os.WriteFile(w.ca, w.vc.CertPEM(), 0o600)) }
