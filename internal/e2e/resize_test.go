package e2e

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// remedy asks for a remediation by hand, and waits for it.
func (s *site) byRequest(req remedy.Request) remediateapi.Report {
	s.t.Helper()
	object := req.VM
	if object.Zero() {
		object = req.Source
	}
	id := remedy.WorkflowID(req.Kind, object, s.queue)
	_, err := s.c.SignalWithStartWorkflow(s.t.Context(), id, remedy.Signal, req,
		client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, remedy.WorkflowType(req.Kind))
	s.must(err)
	return s.reportOf(id)
}

func TestAnAlarmOfAVMAddsCPUsHotBySocketsWhereTheRuleSaysSo(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	box := newMailbox(t)
	s.rules = append(s.rules, resizes(remedy.AlarmCPU, remedy.Resize{Mode: remedy.ModeHotOrOff, ReplyTo: box.URL}))
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 4, CoresPerSocket: 2, CPUHotAdd: true}))
	s.works()
	s.turnsRed(remedy.AlarmCPU, vm)
	d := s.decided(remedy.KindResize, vm, remediateapi.Applied)
	if h := s.vc.HardwareOf(vm); h.CPUs != 6 || !d.Hot || d.Before.CPUs != 4 || d.After.CPUs != 6 || !d.Annotated || d.Reply != "sent" {
		t.Errorf("%d CPUs: %s", h.CPUs, pretty(d))
	}
	if a := s.lastDecision(vm); a.State != remediateapi.Applied || a.Cause.Alarm != remedy.AlarmCPU || a.WorkflowID == "" || len(a.Event) == 0 {
		t.Errorf("the attribute says %s", pretty(a))
	}
	s.keep("added-hot", remedy.WorkflowID(remedy.KindResize, ref(vm), s.queue))
	kinds, data := box.events(t, 1)
	if kinds[0] != remediateapi.Applied || data[0].VM != ref(vm) || data[0].Before.CPUs != 4 || data[0].After.CPUs != 6 || data[0].Reason == "" {
		t.Errorf("the event %s says %s", kinds[0], pretty(data[0]))
	}
}

func TestWithoutLeaveAResizeOnlyRecommends(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	box := newMailbox(t)
	s.rules = append(s.rules, resizes(remedy.AlarmMemory, remedy.Resize{ReplyTo: box.URL}))
	vms := s.vc.TaggedVMs("")
	for _, vm := range vms[:2] {
		s.must(s.vc.SetHardware(vm.Ref, simulation.Hardware{MemoryMB: 8192, MemoryHotAdd: true}))
	}
	s.must(s.vc.SetTags(vms[1].Ref, remedy.CategoryMode, remedy.ModeHotAdd)) // the owner opts in
	s.works()
	s.turnsRed(remedy.AlarmMemory, vms[0].Ref)
	d := s.decided(remedy.KindResize, vms[0].Ref, remediateapi.Planned)
	s.wantHardware(vms[0].Ref, 4, 8192)
	s.wantWish(vms[0].Ref, remedy.CategoryMemory, "")
	if d.After.MemoryMB != 10240 {
		t.Errorf("recommended %s", pretty(d))
	}
	s.turnsRed(remedy.AlarmMemory, vms[1].Ref)
	s.decided(remedy.KindResize, vms[1].Ref, remediateapi.Applied)
	s.wantHardware(vms[1].Ref, 4, 10240)
	if kinds, _ := box.events(t, 2); kinds[0] != remediateapi.Planned || kinds[1] != remediateapi.Applied {
		t.Errorf("events %v", kinds)
	}
}

func TestTheOriginalsAlarmTagsAndThePowerOffApplies(t *testing.T) {
	t.Parallel()
	s := remedied(t, resizes(remedy.AlarmOriginalCPU, remedy.Resize{}), resizes(remedy.AlarmOriginalMemory, remedy.Resize{}), reconfigures())
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, MemoryMB: 3000}))
	s.must(s.vc.SetTags(vm, remedy.CategoryCPUs, "2"))
	s.works()
	s.turnsRed(remedy.AlarmOriginalCPU, vm)
	s.turnsRed(remedy.AlarmOriginalMemory, vm)
	s.eventually("both wishes stand as tags", func() bool {
		tags := s.vc.TagsOf(vm)
		return strings.Join(tags[remedy.CategoryCPUs], ",") == "3" && strings.Join(tags[remedy.CategoryMemory], ",") == "4096"
	})
	for _, d := range s.report(remedy.KindResize, vm).Decisions {
		if d.State != remediateapi.Deferred || d.Tag == "" {
			t.Errorf("want it deferred to the next power-off: %s", pretty(d))
		}
	}
	s.wantHardware(vm, 2, 3000)
	s.must(s.vc.SetTags(vm, remedy.CategoryCoresPerSocket, "7")) // cannot be: reported, and the others are applied
	s.must(s.vc.SetTags(vm, remedy.CategoryCPUHotAdd, "true"))
	s.must(s.vc.PowerOffAs(vm, "owner@example.org"))
	d := s.decided(remedy.KindReconfigure, vm, remediateapi.Applied)
	s.wantHardware(vm, 3, 4096)
	if h := s.vc.HardwareOf(vm); !h.CPUHotAdd || h.CoresPerSocket != 1 || len(d.Bad) != 1 || d.Bad[0].Category != remedy.CategoryCoresPerSocket {
		t.Errorf("%+v, %s", h, pretty(d))
	}
	if a := s.lastDecision(vm); a.State != remediateapi.Applied || a.Kind != remedy.KindReconfigure {
		t.Errorf("the attribute says %s", pretty(a))
	}
	s.keep("tagged-and-applied", remedy.WorkflowID(remedy.KindResize, ref(vm), s.queue), remedy.WorkflowID(remedy.KindReconfigure, ref(vm), s.queue))
}

func TestAVMIsNeverMadeSmallerByAnAlarm(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	box := newMailbox(t)
	s.rules = append(s.rules, resizes(remedy.AlarmOriginalCPU, remedy.Resize{ReplyTo: box.URL}))
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 12, CoresPerSocket: 1})) // the original would have made it 4
	s.works()
	s.turnsRed(remedy.AlarmOriginalCPU, vm)
	s.decided(remedy.KindResize, vm, remediateapi.AtLimit)
	s.wantWish(vm, remedy.CategoryCPUs, "")
	s.wantHardware(vm, 12, 16<<10)
	if kinds, _ := box.events(t, 1); kinds[0] != remediateapi.AtLimit {
		t.Errorf("events %v", kinds)
	}
}

func TestAHotAddThatVCenterRefusesIsLeftAsATag(t *testing.T) {
	t.Parallel()
	s := remedied(t, resizes("memory", remedy.Resize{Resource: remedy.Memory, Mode: remedy.ModeHotOrOff}))
	vms := s.vc.TaggedVMs("")
	s.must(s.vc.SetHardware(vms[0].Ref, simulation.Hardware{MemoryMB: 2048, MemoryHotAdd: true, Linux: true})) // 3 GB at most, hot
	s.must(s.vc.SetHardware(vms[1].Ref, simulation.Hardware{MemoryMB: 8192, MemoryHotAdd: true}))
	s.vc.FailTaskOf("ReconfigVM_Task", vms[1].Ref, &types.MemoryHotPlugNotSupported{}, 1)
	s.works()
	s.turnsRed("memory", vms[0].Ref)
	s.decided(remedy.KindResize, vms[0].Ref, remediateapi.Applied)
	s.wantHardware(vms[0].Ref, 4, 3072)
	s.turnsRed("memory", vms[1].Ref)
	s.decided(remedy.KindResize, vms[1].Ref, remediateapi.Deferred)
	s.wantHardware(vms[1].Ref, 4, 8192)
	s.wantWish(vms[1].Ref, remedy.CategoryMemory, "10240")
}

func TestAfterAHotAddNoOlderWishMakesTheVMSmaller(t *testing.T) {
	t.Parallel()
	s := remedied(t, resizes("cpu", remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotOrOff}), reconfigures())
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 4, CoresPerSocket: 1, CPUHotAdd: true}))
	s.must(s.vc.SetTags(vm, remedy.CategoryCPUs, "2"))
	s.works()
	s.turnsRed("cpu", vm)
	s.decided(remedy.KindResize, vm, remediateapi.Applied)
	s.must(s.vc.PowerOffAs(vm, "owner@example.org"))
	s.report(remedy.KindReconfigure, vm)
	s.wantHardware(vm, 5, 16<<10)
}

func TestTwoAlarmsAtOnceOnOneVMAreRemediedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	s := remedied(t, resizes(remedy.AlarmCPU, remedy.Resize{Mode: remedy.ModeHotOrOff}), resizes(remedy.AlarmMemory, remedy.Resize{Mode: remedy.ModeHotOrOff}))
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, MemoryMB: 4096, CPUHotAdd: true, MemoryHotAdd: true}))
	s.works()
	s.turnsRed(remedy.AlarmCPU, vm)
	s.turnsRed(remedy.AlarmMemory, vm)
	s.eventually("both are added", func() bool { h := s.vc.HardwareOf(vm); return h.CPUs == 3 && h.MemoryMB == 5120 })
	s.report(remedy.KindResize, vm)
	if st := s.ledger(); len(st.Reserved) > 0 {
		t.Errorf("the ledger still holds %v", st.Reserved)
	}
}

func TestAnEventCountsOnceAndTheCooldownHolds(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	s.worker()
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	grow := func(id string) remedy.Request {
		return asks(remedy.KindResize, vm, func(r *remedy.Request) {
			r.ID, r.Resize = id, &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotAdd}
		})
	}
	states := func(r remediateapi.Report) (all []string) {
		for _, d := range r.Decisions {
			all = append(all, d.State)
		}
		return all
	}
	if got := states(s.byRequest(grow("event-1"))); len(got) != 1 || got[0] != remediateapi.Applied {
		t.Fatalf("first %v", got)
	}
	before := s.lastDecision(vm)
	r := s.byRequest(grow("event-1"))
	if d := r.Decisions[0]; d.State != remediateapi.Skipped || !strings.Contains(d.Reason, "before") {
		t.Errorf("the same event again: %s", pretty(d))
	}
	if a := s.lastDecision(vm); !a.EndedAt.Equal(before.EndedAt) {
		t.Errorf("the redelivered event wrote %s", pretty(a))
	}
	r = s.byRequest(grow("event-2"))
	if d := r.Decisions[0]; d.State != remediateapi.Skipped || d.Until.Before(time.Now().Add(20*time.Minute)) {
		t.Errorf("within the cooldown: %s", pretty(d))
	}
	s.wantHardware(vm, 3, 16<<10)
}

func TestTheCircuitBreakerLeavesOnlyRecommendations(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	s.remedy.PerHour = 2
	s.worker()
	vms := s.vc.TaggedVMs("")
	for i, want := range []string{remediateapi.Applied, remediateapi.Applied, remediateapi.Planned} {
		s.must(s.vc.SetHardware(vms[i].Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
		r := s.byRequest(asks(remedy.KindResize, vms[i].Ref, func(r *remedy.Request) {
			r.Resize = &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotAdd}
		}))
		if d := r.Decisions[0]; d.State != want {
			t.Errorf("VM %d: %s", i, pretty(d))
		}
	}
	s.wantHardware(vms[2].Ref, 2, 16<<10)
}

func TestWhoOnlyObservesChangesNoVM(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	s.remedy.Observe = true
	s.worker()
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	version := s.vc.ChangeVersion(vm)
	r := s.byRequest(asks(remedy.KindResize, vm, func(r *remedy.Request) {
		r.Resize = &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotAdd}
	}))
	if d := r.Decisions[0]; d.State != remediateapi.Planned || d.Annotated || s.vc.ChangeVersion(vm) != version {
		t.Errorf("%s", pretty(d))
	}
	if _, ok := s.vc.Attribute(vm, remediateapi.Attribute); ok {
		t.Error("the VM was annotated")
	}
}

func TestRubbishHarmsNoRemediation(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	s.worker()
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	id := remedy.WorkflowID(remedy.KindResize, ref(vm), s.queue)
	opts := client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}
	for _, rubbish := range []any{
		"no request", 42,
		[]byte{0xff, 0},
		strings.Repeat("x", 300<<10), nil,
		map[string]any{"kind": "move"},
		remedy.Request{Kind: "resize"},
		remedy.Request{VM: vsphere.Ref{Type: "Folder", Value: "group-1"}},
		asks(remedy.KindResize, vm, func(r *remedy.Request) { r.Resize = &remedy.Resize{Resource: "disk"} }),
		asks(remedy.KindResize, vm, func(r *remedy.Request) { r.TaskQueue = "another" }),
		asks(remedy.KindResize, types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-999999"}, func(r *remedy.Request) {
			r.Resize = &remedy.Resize{Resource: remedy.CPU}
		}),
	} {
		_, err := s.c.SignalWithStartWorkflow(t.Context(), id, remedy.Signal, rubbish, opts, remedy.ResizeType)
		s.must(err)
	}
	s.report(remedy.KindResize, vm)
	s.keep("rubbish", id)
	r := s.byRequest(asks(remedy.KindResize, vm, func(r *remedy.Request) {
		r.Resize = &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotAdd}
	}))
	if d := r.Decisions[len(r.Decisions)-1]; d.State != remediateapi.Applied {
		t.Errorf("after the rubbish: %s", pretty(d))
	}
}

func TestAResizeWaitsForAPreemptionAndLooksAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3), withPolicy(func(p *policy.Policy) {
		p.Criticality.Medium = policy.Treatment{Action: action.ShutdownGuest, Notice: clock.Duration(3 * time.Second), GracePeriod: clock.Duration(2 * time.Second), ThenForce: true}
	}))
	s.worker()
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	s.reaches(s.started("alarm"), preemptapi.RoundNotified)
	r := s.byRequest(asks(remedy.KindResize, vm, func(r *remedy.Request) {
		r.Resize = &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotOrOff}
	}))
	wantState(t, s.done("alarm"), preemptapi.RoundCompleted, 3)
	if d := r.Decisions[0]; d.State != remediateapi.Deferred || d.Tag != remedy.CategoryCPUs+"=3" {
		t.Errorf("it was off when the resize had it: %s", pretty(d))
	}
	s.keep("waited", remedy.WorkflowID(remedy.KindResize, ref(vm), s.queue))
	s.wantHardware(vm, 2, 16<<10)
}

func TestACloudEventOfAVMsAlarmResizesItOnceHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	s := remedied(t, resizes(remedy.AlarmCPU, remedy.Resize{Mode: remedy.ModeHotAdd}))
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	s.worker()
	url := s.receiver()
	ev, err := s.vc.PostAlarm(t.Context(), simulation.AlarmChange{Name: remedy.AlarmCPU, Entity: vm, From: "green", To: "red"})
	s.must(err)
	for range 3 {
		s.bring(url, sourced(t, s.vc.URL(), ev))
	}
	s.eventually("it is larger", func() bool { return s.vc.HardwareOf(vm).CPUs == 3 })
	r := s.report(remedy.KindResize, vm)
	for _, d := range r.Decisions[1:] {
		if d.State != remediateapi.Skipped {
			t.Errorf("the event came again: %s", pretty(d))
		}
	}
	s.wantHardware(vm, 3, 16<<10)
}

func TestAPlanChangesNothing(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	s.worker()
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	version := s.vc.ChangeVersion(vm)
	r := s.byRequest(asks(remedy.KindResize, vm, func(r *remedy.Request) {
		r.DryRun, r.Resize = true, &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotAdd}
	}))
	if d := r.Decisions[0]; d.State != remediateapi.Planned || d.After.CPUs != 3 || s.vc.ChangeVersion(vm) != version || len(s.vc.TagsOf(vm)[remedy.CategoryCPUs]) > 0 {
		t.Errorf("%s", pretty(d))
	}
}
