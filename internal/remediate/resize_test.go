package remediate_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// cpuAlarm asks for more CPUs of a VM.
func cpuAlarm(vm placement.VM, mode string) placement.Request {
	return placement.Request{
		ID: "event-1", Kind: placement.KindResize, VM: vm.Ref, Resize: &placement.Resize{Resource: placement.CPU, Mode: mode},
		Cause: placement.Cause{Alarm: placement.AlarmCPU, Entity: vm.Ref, To: "red", VCenter: "vcenter.example.com"},
	}
}

func TestAVMInAlarmGetsMoreCPUsWhileItIsOn(t *testing.T) {
	s := newSite(t, web(1))
	var kind, body string
	mailbox := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		kind, body = r.Header.Get("Ce-Type"), string(b)
	}))
	defer mailbox.Close()
	req := cpuAlarm(web(1), placement.ModeHotOrOff)
	req.Resize.ReplyTo = mailbox.URL
	d := s.decided(req, remediateapi.Applied, "")
	s.wantDone("reconfigure web-1 to 3 CPUs and 4096 MB")
	if !d.Hot || d.Before.CPUs != 2 || d.After.CPUs != 3 || d.Reply != "sent" || !d.Annotated {
		t.Errorf("%+v", d)
	}
	if !strings.Contains(s.attribute[d.VM], `"state":"Applied"`) {
		t.Errorf("the VM's attribute says %q", s.attribute[d.VM])
	}
	if kind != "com.vmware.workflows.vsphere.remediation.Applied.v0" || !strings.Contains(body, `"name":"web-1"`) {
		t.Errorf("the reply address got %s: %s", kind, body)
	}
}

func TestAnAlarmOfMemoryAddsMemory(t *testing.T) {
	s := newSite(t, web(1))
	req := cpuAlarm(web(1), placement.ModeHotOrOff)
	req.Resize.Resource = placement.Memory
	s.decided(req, remediateapi.Applied, "")
	s.wantDone("reconfigure web-1 to 2 CPUs and 5120 MB")
}

func TestWhatIsDoneWithAVMFollowsItsModeAndWhatItTakesHot(t *testing.T) {
	const tagged = "tag web-1 config.hardware.numCPU=3"
	for name, c := range map[string]struct {
		mode   string
		change func(*site, *placement.VM, *placement.Request)
		state  remediateapi.State
		reason string
		done   []string
	}{
		"only recommended":                {placement.ModeRecommend, nil, remediateapi.Planned, "the mode is recommend", nil},
		"left as a tag":                   {placement.ModeTag, nil, remediateapi.Deferred, "wanted as tag config.hardware.numCPU=3", []string{tagged}},
		"it takes no CPUs while it is on": {placement.ModeHotOrOff, func(_ *site, vm *placement.VM, _ *placement.Request) { vm.CPUHotAdd = false }, remediateapi.Deferred, "for the next power-off", []string{tagged}},
		"vCenter refuses to add it hot": {
			placement.ModeHotOrOff, func(s *site, _ *placement.VM, _ *placement.Request) {
				s.fails["reconfigure"] = []error{fault(vcenter.Invalid)}
			},
			remediateapi.Deferred, "vCenter refuses to add it hot",
			[]string{tagged},
		},
		"vCenter refuses, and it is hot or never": {
			placement.ModeHotAdd, func(s *site, _ *placement.VM, _ *placement.Request) {
				s.fails["reconfigure"] = []error{fault(vcenter.Invalid)}
			},
			remediateapi.Infeasible, "vCenter refuses to add it hot", nil,
		},
		"an older wish would make it smaller at its next power-off": {
			placement.ModeHotOrOff, func(_ *site, vm *placement.VM, _ *placement.Request) {
				vm.CPUs = 4
				vm.Tags[placement.CategoryCPUs] = []string{"2"}
			},
			remediateapi.Applied, "",
			[]string{"reconfigure web-1 to 5 CPUs and 4096 MB", "tag web-1 config.hardware.numCPU=5"},
		},
		"the owner keeps it out": {placement.ModeHotOrOff, func(_ *site, vm *placement.VM, _ *placement.Request) {
			vm.Tags[placement.CategoryMode] = []string{"off"}
		}, remediateapi.Skipped, "left alone", nil},
		"it is as large as it may be": {placement.ModeHotOrOff, func(_ *site, vm *placement.VM, _ *placement.Request) {
			vm.Tags[placement.CategoryMaxCPUs] = []string{"2"}
		}, remediateapi.AtLimit, "", nil},
		"the worker only observes":       {placement.ModeHotOrOff, func(s *site, _ *placement.VM, _ *placement.Request) { s.settings.Observe = true }, remediateapi.Planned, "the worker only observes", nil},
		"neverTouch names it":            {placement.ModeHotOrOff, func(s *site, _ *placement.VM, _ *placement.Request) { s.settings.NeverTouch = []string{"web-*"} }, remediateapi.Skipped, "neverTouch", nil},
		"it is a template":               {placement.ModeHotOrOff, func(_ *site, vm *placement.VM, _ *placement.Request) { vm.Template = true }, remediateapi.Skipped, "it is a template", nil},
		"vCenter runs on it":             {placement.ModeHotOrOff, func(_ *site, vm *placement.VM, _ *placement.Request) { vm.GuestAddrs = []string{"vcenter.example.com"} }, remediateapi.Skipped, "vCenter runs on it", nil},
		"the alarm is another vCenter's": {placement.ModeHotOrOff, func(s *site, _ *placement.VM, _ *placement.Request) { s.foreign = "it is of another vCenter" }, remediateapi.Skipped, "it is of another vCenter", nil},
		"it is fault tolerant":           {placement.ModeHotOrOff, func(_ *site, vm *placement.VM, _ *placement.Request) { vm.FaultTolerant = true }, remediateapi.Skipped, "it is fault tolerant", nil},
		"a dry run, hot":                 {placement.ModeHotOrOff, func(_ *site, _ *placement.VM, r *placement.Request) { r.DryRun = true }, remediateapi.Planned, "it would be added hot", nil},
		"a dry run of a tag":             {placement.ModeTag, func(_ *site, _ *placement.VM, r *placement.Request) { r.DryRun = true }, remediateapi.Planned, "it would be left as a tag", nil},
		"a dry run that recommends":      {placement.ModeRecommend, func(_ *site, _ *placement.VM, r *placement.Request) { r.DryRun = true }, remediateapi.Planned, "nothing would be changed", nil},
		"a dry run of what is not hot":   {placement.ModeHotOrOff, func(_ *site, vm *placement.VM, r *placement.Request) { r.DryRun, vm.CPUHotAdd = true, false }, remediateapi.Planned, "for the next power-off", nil},
		"it no longer exists":            {placement.ModeHotOrOff, func(s *site, vm *placement.VM, _ *placement.Request) { delete(s.vms, vm.Ref) }, remediateapi.Infeasible, "does not exist", nil},
		"the tag cannot be set": {
			placement.ModeTag, func(s *site, _ *placement.VM, _ *placement.Request) {
				s.fails["tag"] = []error{fault(vcenter.NoPermission)}
			},
			remediateapi.Failed, "leave the wish as a tag", nil,
		},
		"the size changed meanwhile": {
			placement.ModeHotOrOff, func(s *site, vm *placement.VM, _ *placement.Request) { s.before["reserve"] = func() { vm.CPUs = 8 } },
			remediateapi.Applied, "", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, req := newSite(t, web(1)), cpuAlarm(web(1), c.mode)
			if c.change != nil {
				c.change(s, s.vms[req.VM], &req)
			}
			d := s.decided(req, c.state, c.reason)
			s.wantDone(c.done...)
			if told := s.attribute[d.VM] != ""; told && (req.DryRun || s.settings.Observe) {
				t.Errorf("it was written to the VM: %s", s.attribute[d.VM])
			}
		})
	}
}

func TestASecondAlarmWithinTheCooldownChangesNothing(t *testing.T) {
	s := newSite(t, web(1))
	first, second := cpuAlarm(web(1), placement.ModeHotOrOff), cpuAlarm(web(1), placement.ModeHotOrOff)
	second.ID = "event-2"
	all := s.decide(placement.KindResize, first, second)
	s.wantDone("reconfigure web-1 to 3 CPUs and 4096 MB")
	if len(all) != 2 || all[1].State != remediateapi.Skipped || !strings.Contains(all[1].Reason, "a short time ago") || all[1].Until.IsZero() {
		t.Errorf("%+v", all)
	}
}

func TestAnEventThatAnotherRunHasDealtWithIsIgnored(t *testing.T) {
	s := newSite(t, web(1))
	s.ledger.RemedyFacts(time.Now(), ledger.RemedyFactsRequest{RequestID: "event-1", By: "another run"})
	s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), remediateapi.Skipped, "dealt with before")
	s.wantDone()
}

func TestTheCircuitBreakerLeavesOnlyRecommendations(t *testing.T) {
	s := newSite(t, web(1), web(2))
	s.settings.PerHour = 1
	first, second := cpuAlarm(web(1), placement.ModeHotOrOff), cpuAlarm(web(2), placement.ModeHotOrOff)
	second.ID = "event-2"
	all := s.decide(placement.KindResize, first, second)
	s.wantDone("reconfigure web-1 to 3 CPUs and 4096 MB")
	if all[1].State != remediateapi.Planned || !strings.Contains(all[1].Reason, "limits.remediationsPerHour") {
		t.Errorf("%+v", all[1])
	}
}

func TestWhatOthersDidBetweenPlanAndChangeIsHeeded(t *testing.T) {
	remedied := func(s *site, vm int, cooldown time.Duration) {
		r := ledger.RemedyRequest{Owner: "resize@other", VM: web(vm).Ref.String(), What: placement.CPU, Cooldown: cooldown}
		s.ledger.Remedy(s.env.Now(), r)
		s.ledger.Remedied(s.env.Now(), ledger.RemediedRequest{Owner: r.Owner, VM: r.VM, What: r.What, Acted: true})
	}
	s := newSite(t, web(1))
	s.before["reserve"] = func() { remedied(s, 1, time.Hour) }
	if d := s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), remediateapi.Skipped, "a short time ago"); d.Until.IsZero() {
		t.Error("it does not say until when")
	}
	s.wantDone()
	s = newSite(t, web(1), web(2))
	s.settings.PerHour = 1
	s.before["reserve"] = func() { remedied(s, 2, time.Hour) }
	s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), remediateapi.Planned, "limits.remediationsPerHour")
	s.wantDone()
}

func TestAVMThatAnotherHasIsWaitedFor(t *testing.T) {
	held := ledger.RemedyRequest{Owner: "round-7", VM: web(1).Ref.String(), What: "evict"}
	t.Run("until it is free", func(t *testing.T) {
		s := newSite(t, web(1))
		s.ledger.Remedy(time.Now(), held)
		s.env.RegisterDelayedCallback(func() {
			s.vms[web(1).Ref].CPUs = 4 // it is looked at again
			s.ledger.Remedied(s.env.Now(), ledger.RemediedRequest{Owner: held.Owner, VM: held.VM, What: held.What})
		}, 20*time.Minute)
		s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), remediateapi.Applied, "")
		s.wantDone("reconfigure web-1 to 5 CPUs and 4096 MB")
	})
	t.Run("until patience ends", func(t *testing.T) {
		s := newSite(t, web(1))
		s.ledger.Remedy(time.Now(), held)
		s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), remediateapi.Deferred, "given up after 2h0m0s: waits for round-7, which has the VM")
		s.wantDone()
	})
	t.Run("until it is cancelled", func(t *testing.T) {
		s := newSite(t, web(1))
		s.ledger.Remedy(time.Now(), held)
		s.env.RegisterDelayedCallback(s.env.CancelWorkflow, time.Minute)
		s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), remediateapi.Skipped, "cancelled while it waited")
		s.wantDone()
	})
	t.Run("and is not needed any more", func(t *testing.T) {
		s := newSite(t, web(1))
		s.ledger.Remedy(time.Now(), held)
		s.env.RegisterDelayedCallback(func() {
			s.vms[web(1).Ref].Tags[placement.CategoryMode] = []string{"off"}
			s.ledger.Remedied(s.env.Now(), ledger.RemediedRequest{Owner: held.Owner, VM: held.VM, What: held.What})
		}, time.Minute)
		s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), remediateapi.Skipped, "left alone")
		if holder := s.ledger.Reserved[held.VM]; holder != "" {
			t.Errorf("%s still has the VM", holder)
		}
	})
}

func TestAnOutageIsWaitedOutAndNothingIsDoneTwice(t *testing.T) {
	away := fault(vcenter.Unavailable)
	s := newSite(t, web(1))
	s.running = true
	s.fails["hardware"] = []error{away, away}
	s.fails["reconfigure"] = []error{away}
	s.fails["await task"] = []error{away}
	s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), remediateapi.Applied, "")
	s.wantDone("reconfigure web-1 to 3 CPUs and 4096 MB")
}

func TestAVMThatChangesMeanwhileIsReadAgainThreeTimes(t *testing.T) {
	changed := fault(vcenter.Conflict)
	for name, c := range map[string]struct {
		fails []error
		state remediateapi.State
	}{
		"three times":              {[]error{changed, changed, changed}, remediateapi.Applied},
		"four times":               {[]error{changed, changed, changed, changed}, remediateapi.Failed},
		"while another task is on": {[]error{fault(vcenter.Busy), fault(vcenter.Busy)}, remediateapi.Applied},
		"without permission":       {[]error{fault(vcenter.NoPermission)}, remediateapi.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, web(1))
			s.fails["reconfigure"] = c.fails
			s.decided(cpuAlarm(web(1), placement.ModeHotOrOff), c.state, "")
		})
	}
}

func TestAVMThatAPersonNamesIsFound(t *testing.T) {
	byName := func(name string) placement.Request {
		return placement.Request{Kind: placement.KindResize, Target: name, TargetType: vsphere.TypeVM, Resize: &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotOrOff}}
	}
	s := newSite(t, web(1))
	if d := s.decided(byName("web-1"), remediateapi.Applied, ""); d.VM != web(1).Ref {
		t.Errorf("%+v", d)
	}
	newSite(t, web(1)).decided(byName("db-1"), remediateapi.Failed, "plan the resize: do it: vCenter says NotFound")
}
