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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestGuestsAreToldBeforeTheyGoAndTheNoticeIsClearedAfterwards(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithNotice(time.Second))
	s.Worker()
	vm := s.VC.TaggedVMs("cluster-a")[0]
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.Started("alarm")
	var text string
	s.Eventually("the guest is told", func() bool { text = s.Guest(vm); return text != "" })
	for _, want := range []string{`"state":"pending"`, `"action":"powerOff"`, `"deadline":"`, `"decision":"` + id, "cluster-cpu-above-80"} {
		if !strings.Contains(text, want) {
			t.Errorf("the notice lacks %s: %s", want, text)
		}
	}
	if s.VC.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
		t.Error("it went before its time")
	}
	r := s.Round(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
	sitetest.WantNotice(t, r, vm.Name, "given")
	s.Eventually("the notice is cleared", func() bool { return s.Guest(vm) == "" })
}

func TestAFallDuringTheNoticeSparesEveryoneAndTellsTheGuests(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithNotice(time.Minute))
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	vm := s.VC.TaggedVMs("cluster-a")[0]
	s.Alarm("cluster-a", 0, "green", "red")
	id := s.Exists(s.Intake("cpu", "cluster-a"))
	s.Eventually("the guest is told", func() bool { return s.Guest(vm) != "" })
	s.Alarm("cluster-a", 0, "red", "green")
	r := s.Done(id)
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.Agree(r)
	sitetest.WantNotice(t, r, vm.Name, "withdrawn")
	if text := s.Guest(vm); !strings.Contains(text, `"state":"withdrawn"`) {
		t.Errorf("the guest reads %s", text)
	}
}

func TestARiseShortensTheNotice(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Medium.Notice = clock.Duration(10 * time.Minute) }))
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	vm := s.VC.TaggedVMs("cluster-a")[0]
	s.Alarm("cluster-a", 0, "green", "yellow")
	id := s.Exists(s.Intake("cpu", "cluster-a"))
	s.Eventually("the guest is told", func() bool { return s.Guest(vm) != "" })
	s.Alarm("cluster-a", 0, "yellow", "red")
	r := s.Done(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
	if r.Criticality != preemption.CriticalityHigh {
		t.Errorf("criticality %s", r.Criticality)
	}
}

func TestAGuestThatIsReadyGoesAtOnceAndOneThatAsksGetsOneExtension(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2), sitetest.WithNotice(4*time.Second))
	vms := s.VC.TaggedVMs("")
	s.VC.GuestReply(vms[0].Ref, func(string) (string, time.Duration) { return "ready", 0 })
	s.VC.GuestReply(vms[1].Ref, func(notice string) (string, time.Duration) {
		if strings.Contains(notice, `"state":"extended"`) {
			return "extend 1h", 0
		}
		return "extend 2s", 0
	})
	s.Worker()
	start := time.Now()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	s.Agree(r)
	sitetest.WantNotice(t, r, vms[0].Name, "acknowledged")
	sitetest.WantNotice(t, r, vms[1].Name, "extended by 2s")
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
	s := sitetest.New(t)
	s.Worker()
	vm := s.VC.TaggedVMs("cluster-a")[1]
	req := sitetest.PersonRequest(preemption.CriticalityMedium)
	req.VM, req.NoticeOnly, req.Notice = vm.Ref.Value, true, "1s"
	s.Signal("rehearsal", req)
	s.Eventually("the guest is told", func() bool { return strings.Contains(s.Guest(vm), `"state":"pending"`) })
	r := s.Done("rehearsal")
	sitetest.WantState(t, r, preemptapi.RoundRehearsed, 0)
	s.Agree(r)
	if !strings.Contains(s.Guest(vm), `"state":"withdrawn"`) || s.VC.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
		t.Errorf("the guest reads %s, it is %s", s.Guest(vm), s.VC.PowerState(vm.Ref))
	}
}

func TestAGuestThatWasReadyIsRecordedAndForcedInItsOwnTimeWhileOthersStillHaveTheirNotice(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithPolicy(func(p *policy.Policy) {
		p.Criticality.Medium = policy.Treatment{
			Action: action.ShutdownGuest, Notice: clock.Duration(6 * time.Second), GracePeriod: clock.Duration(4 * time.Second), ThenForce: true,
		}
	}))
	vms := s.VC.TaggedVMs("")
	ready := func(string) (string, time.Duration) { return "ready", 0 }
	s.VC.GuestReply(vms[0].Ref, ready)
	s.VC.IgnoreShutdown(vms[2].Ref)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	id := s.Started("alarm")
	s.Eventually("the ready one is off and annotated while the others have their notice", func() bool {
		_, annotated := s.Attribute(vms[0].Ref)
		return annotated && s.Under(id).State == preemptapi.RoundNotified
	})
	r := s.Round(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 3)
	s.Agree(r)
	late, early := sitetest.OutcomeOf(t, r, vms[2]), sitetest.OutcomeOf(t, r, vms[1])
	if late.Outcome != action.Forced || late.OffAt.Sub(early.OffAt) < 3*time.Second {
		t.Errorf("the one that ignored its shutdown: %s, %s after the other was off", late.Outcome, late.OffAt.Sub(early.OffAt))
	}
}
