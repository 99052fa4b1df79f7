package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// TestAfterKillMinusNineAtAnyInstantOfItsLifeEveryVMIsAccountedFor kills the worker at fifty instants over the
// eviction's life, at least eight in each phase, and lets another go on.
func TestAfterKillMinusNineAtAnyInstantOfItsLifeEveryVMIsAccountedFor(t *testing.T) {
	t.Parallel()
	random := sitetest.Seeded(t)
	phases := []string{"notice", "wait", "act", "verify", "annotate", "report"}
	for i := range sitetest.Sized(50, 12) {
		phase, nth, delay := phases[i%len(phases)], int64(1+random.IntN(4)), time.Duration(random.IntN(500))*time.Millisecond
		late := sitetest.DrawLags(t, random)
		t.Run(fmt.Sprintf("%s %d", phase, i/len(phases)+1), func(t *testing.T) {
			t.Parallel()
			l := newLife(t)
			l.Lagged(late)
			p := l.Process()
			var gone sync.WaitGroup
			gone.Add(1)
			killed := sync.OnceFunc(func() {
				go func() {
					defer gone.Done()
					p.Kill()
				}()
				time.Sleep(30 * time.Millisecond) // what comes next is served when its sender is no more
			})
			onCall := func(method string) { l.OnCall(method, nth, func(types.ManagedObjectReference) { killed() }) }
			switch phase {
			case "notice":
				onCall("ReconfigVM_Task")
			case "act":
				onCall("ShutdownGuest")
			case "annotate":
				onCall("SetField")
			case "report":
				l.received = killed
			}
			req := l.AlarmRequest("cluster-a", preemption.CriticalityMedium)
			req.ReplyTo = l.sink.URL
			l.Signal("alarm", req)
			switch id := l.Started("alarm"); phase {
			case "wait":
				l.Eventually("the notice runs", func() bool { return l.Under(id).State == preemptapi.RoundNotified })
				time.Sleep(delay)
				killed()
			case "verify":
				l.Eventually("guests are asked", func() bool { return l.Calls("ShutdownGuest") == lifeVMs })
				time.Sleep(delay)
				killed()
			}
			gone.Wait()
			l.Worker()
			r := l.Round(l.Started("alarm"))
			sitetest.WantState(t, r, preemptapi.RoundCompleted, lifeVMs)
			l.WantOursExactly(r)
			for _, vm := range l.VC.TaggedVMs("") {
				if text := l.Guest(vm); text != "" {
					t.Errorf("%s keeps its notice: %s", vm.Name, text)
				}
			}
			if !r.ReplySent {
				t.Errorf("no reply: %s", r.ReplyError)
			}
		})
	}
}

const lifeVMs = 4

// life is a site whose rounds go through notice, guest shutdown, force and report in a few seconds.
type life struct {
	*sitetest.Site
	sink     *httptest.Server
	received func() // when the report arrives; nil: nothing more
}

func newLife(t *testing.T) *life {
	t.Helper()
	l := &life{Site: sitetest.New(t, sitetest.OneCluster(lifeVMs), sitetest.Impatient, sitetest.WithPolicy(func(p *policy.Policy) {
		p.Criticality.Medium = policy.Treatment{
			Action: action.ShutdownGuest, Notice: clock.Duration(800 * time.Millisecond),
			GracePeriod: clock.Duration(1500 * time.Millisecond), ThenForce: true,
		}
	}))}
	l.VC.SetLatency(5 * time.Millisecond)
	l.VC.SetShutdownDelay(500 * time.Millisecond)
	l.VC.IgnoreShutdown(l.VC.TaggedVMs("")[0].Ref)
	l.sink = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Ce-Type") == preemption.PreemptedEventType && l.received != nil {
			l.received()
		}
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(l.sink.Close)
	return l
}
