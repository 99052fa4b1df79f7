package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// notice gives every criticality a notice before it acts.
func notice(d time.Duration) siteOption {
	return withPolicy(func(p *policy.Policy) {
		p.Criticality.High.Notice, p.Criticality.Medium.Notice, p.Criticality.Low.Notice = clock.Duration(d), clock.Duration(d), clock.Duration(d)
	})
}

func wantNotice(t testing.TB, r preemptapi.RoundResult, vm, want string) {
	t.Helper()
	for _, o := range r.Targets {
		if o.Name == vm {
			if !strings.Contains(o.Notice, want) {
				t.Errorf("the notice of %s: %q, want %q", vm, o.Notice, want)
			}
			return
		}
	}
	t.Errorf("%s is no target", vm)
}

// guest is what the guest of a VM reads of its notice.
func (s *site) guest(vm simulation.VM) string { return s.vc.GuestInfo(vm.Ref, "guestinfo.preemption") }

func TestGuestsAreToldBeforeTheyGoAndTheNoticeIsClearedAfterwards(t *testing.T) {
	t.Parallel()
	s := newSite(t, notice(time.Second))
	s.worker()
	vm := s.vc.TaggedVMs("cluster-a")[0]
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.started("alarm")
	var text string
	s.eventually("the guest is told", func() bool { text = s.guest(vm); return text != "" })
	for _, want := range []string{`"state":"pending"`, `"action":"powerOff"`, `"deadline":"`, `"decision":"` + id, "cluster-cpu-above-80"} {
		if !strings.Contains(text, want) {
			t.Errorf("the notice lacks %s: %s", want, text)
		}
	}
	if s.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
		t.Error("it went before its time")
	}
	r := s.round(id)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
	wantNotice(t, r, vm.Name, "given")
	s.eventually("the notice is cleared", func() bool { return s.guest(vm) == "" })
}

func TestAFallDuringTheNoticeSparesEveryoneAndTellsTheGuests(t *testing.T) {
	t.Parallel()
	s := watched(t, notice(time.Minute))
	s.worker()
	s.watch(quickWatch)
	vm := s.vc.TaggedVMs("cluster-a")[0]
	s.alarm("cluster-a", 0, "green", "red")
	id := s.exists(s.intake("cpu", "cluster-a"))
	s.eventually("the guest is told", func() bool { return s.guest(vm) != "" })
	s.alarm("cluster-a", 0, "red", "green")
	r := s.done(id)
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.agree(r)
	wantNotice(t, r, vm.Name, "withdrawn")
	if text := s.guest(vm); !strings.Contains(text, `"state":"withdrawn"`) {
		t.Errorf("the guest reads %s", text)
	}
}

func TestARiseShortensTheNotice(t *testing.T) {
	t.Parallel()
	s := watched(t, withPolicy(func(p *policy.Policy) { p.Criticality.Medium.Notice = clock.Duration(10 * time.Minute) }))
	s.worker()
	s.watch(quickWatch)
	vm := s.vc.TaggedVMs("cluster-a")[0]
	s.alarm("cluster-a", 0, "green", "yellow")
	id := s.exists(s.intake("cpu", "cluster-a"))
	s.eventually("the guest is told", func() bool { return s.guest(vm) != "" })
	s.alarm("cluster-a", 0, "yellow", "red")
	r := s.done(id)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.agree(r)
	if r.Criticality != preemption.CriticalityHigh {
		t.Errorf("criticality %s", r.Criticality)
	}
}

func TestAGuestThatIsReadyGoesAtOnceAndOneThatAsksGetsOneExtension(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(2), notice(4*time.Second))
	vms := s.vc.TaggedVMs("")
	s.vc.GuestReply(vms[0].Ref, func(string) (string, time.Duration) { return "ready", 0 })
	s.vc.GuestReply(vms[1].Ref, func(notice string) (string, time.Duration) {
		if strings.Contains(notice, `"state":"extended"`) {
			return "extend 1h", 0
		}
		return "extend 2s", 0
	})
	s.worker()
	start := time.Now()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	wantState(t, r, preemptapi.RoundCompleted, 2)
	s.agree(r)
	wantNotice(t, r, vms[0].Name, "acknowledged")
	wantNotice(t, r, vms[1].Name, "extended by 2s")
	var ready, extended time.Time
	for _, o := range r.Targets {
		if o.Name == vms[0].Name {
			ready = o.OffAt
		} else {
			extended = o.OffAt
		}
	}
	if !ready.Before(extended) || extended.Sub(start) < 5*time.Second {
		t.Errorf("ready went after %s, extended after %s", ready.Sub(start), extended.Sub(start))
	}
}

func TestARehearsalGivesTheNoticeAndTakesItBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	vm := s.vc.TaggedVMs("cluster-a")[1]
	req := person(preemption.CriticalityMedium)
	req.VM, req.NoticeOnly, req.Notice = vm.Ref.Value, true, "1s"
	s.signal("rehearsal", req)
	s.eventually("the guest is told", func() bool { return strings.Contains(s.guest(vm), `"state":"pending"`) })
	r := s.done("rehearsal")
	wantState(t, r, preemptapi.RoundRehearsed, 0)
	s.agree(r)
	if !strings.Contains(s.guest(vm), `"state":"withdrawn"`) || s.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
		t.Errorf("the guest reads %s, it is %s", s.guest(vm), s.vc.PowerState(vm.Ref))
	}
}

func TestAGuestThatWasReadyIsRecordedAndForcedInItsOwnTimeWhileOthersStillHaveTheirNotice(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3), withPolicy(func(p *policy.Policy) {
		p.Criticality.Medium = policy.Treatment{
			Action: action.ShutdownGuest, Notice: clock.Duration(6 * time.Second), GracePeriod: clock.Duration(4 * time.Second), ThenForce: true,
		}
	}))
	vms := s.vc.TaggedVMs("")
	ready := func(string) (string, time.Duration) { return "ready", 0 }
	s.vc.GuestReply(vms[0].Ref, ready)
	s.vc.IgnoreShutdown(vms[2].Ref)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	id := s.started("alarm")
	s.eventually("the ready one is off and annotated while the others have their notice", func() bool {
		_, annotated := s.attribute(vms[0].Ref)
		return annotated && s.under(id).State == preemptapi.RoundNotified
	})
	r := s.round(id)
	wantState(t, r, preemptapi.RoundCompleted, 3)
	s.agree(r)
	late, early := of(t, r, vms[2]), of(t, r, vms[1])
	if late.Outcome != action.Forced || late.OffAt.Sub(early.OffAt) < 3*time.Second {
		t.Errorf("the one that ignored its shutdown: %s, %s after the other was off", late.Outcome, late.OffAt.Sub(early.OffAt))
	}
}
