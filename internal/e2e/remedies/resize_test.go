package remedies

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestAnAlarmOfAVMAddsCPUsHotBySocketsWhereTheRuleSaysSo(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	box := sitetest.NewMailbox(t)
	s.Rules = append(s.Rules, resizes(placement.AlarmCPU, placement.Resize{Mode: placement.ModeHotOrOff, ReplyTo: box.URL}))
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 4, CoresPerSocket: 2, CPUHotAdd: true}))
	s.Works()
	s.TurnsRed(placement.AlarmCPU, vm)
	d := s.Decided(placement.KindResize, vm, remediateapi.Applied)
	if h := s.VC.HardwareOf(vm); h.CPUs != 6 || !d.Hot || d.Before.CPUs != 4 || d.After.CPUs != 6 || !d.Annotated || d.Reply != "sent" {
		t.Errorf("%d CPUs: %s", h.CPUs, sitetest.Pretty(d))
	}
	if a := lastDecision(s, vm); a.State != remediateapi.Applied || a.Cause.Alarm != placement.AlarmCPU || a.WorkflowID == "" || len(a.Event) == 0 {
		t.Errorf("the attribute says %s", sitetest.Pretty(a))
	}
	s.Keep("added-hot", placement.WorkflowID(placement.KindResize, sitetest.Ref(vm), s.Queue))
	kinds, data := box.Events(t, 1)
	if kinds[0] != remediateapi.Applied || data[0].VM != sitetest.Ref(vm) || data[0].Before.CPUs != 4 || data[0].After.CPUs != 6 || data[0].Reason == "" {
		t.Errorf("the event %s says %s", kinds[0], sitetest.Pretty(data[0]))
	}
}

func TestWithoutLeaveAResizeOnlyRecommends(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	box := sitetest.NewMailbox(t)
	s.Rules = append(s.Rules, resizes(placement.AlarmMemory, placement.Resize{ReplyTo: box.URL}))
	vms := s.VC.TaggedVMs("")
	for _, vm := range vms[:2] {
		s.Must(s.VC.SetHardware(vm.Ref, simulation.Hardware{MemoryMB: 8192, MemoryHotAdd: true}))
	}
	s.Must(s.VC.SetTags(vms[1].Ref, placement.CategoryMode, placement.ModeHotAdd)) // the owner opts in
	s.Works()
	s.TurnsRed(placement.AlarmMemory, vms[0].Ref)
	d := s.Decided(placement.KindResize, vms[0].Ref, remediateapi.Planned)
	s.WantHardware(vms[0].Ref, 4, 8192)
	wantWish(s, vms[0].Ref, placement.CategoryMemory, "")
	if d.After.MemoryMB != 10240 {
		t.Errorf("recommended %s", sitetest.Pretty(d))
	}
	s.TurnsRed(placement.AlarmMemory, vms[1].Ref)
	s.Decided(placement.KindResize, vms[1].Ref, remediateapi.Applied)
	s.WantHardware(vms[1].Ref, 4, 10240)
	if kinds, _ := box.Events(t, 2); kinds[0] != remediateapi.Planned || kinds[1] != remediateapi.Applied {
		t.Errorf("events %v", kinds)
	}
}

func TestTheOriginalsAlarmTagsAndThePowerOffApplies(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t, resizes(placement.AlarmOriginalCPU, placement.Resize{}), resizes(placement.AlarmOriginalMemory, placement.Resize{}), sitetest.Reconfigures())
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, MemoryMB: 3000}))
	s.Must(s.VC.SetTags(vm, placement.CategoryCPUs, "2"))
	s.Works()
	s.TurnsRed(placement.AlarmOriginalCPU, vm)
	s.TurnsRed(placement.AlarmOriginalMemory, vm)
	s.Eventually("both wishes stand as tags", func() bool {
		tags := s.VC.TagsOf(vm)
		return strings.Join(tags[placement.CategoryCPUs], ",") == "3" && strings.Join(tags[placement.CategoryMemory], ",") == "4096"
	})
	for _, d := range s.Report(placement.KindResize, vm).Decisions {
		if d.State != remediateapi.Deferred || d.Tag == "" {
			t.Errorf("want it deferred to the next power-off: %s", sitetest.Pretty(d))
		}
	}
	s.WantHardware(vm, 2, 3000)
	s.Must(s.VC.SetTags(vm, placement.CategoryCoresPerSocket, "7")) // cannot be: reported, and the others are applied
	s.Must(s.VC.SetTags(vm, placement.CategoryCPUHotAdd, "true"))
	s.Must(s.VC.PowerOffAs(vm, "owner@example.org"))
	d := s.Decided(placement.KindReconfigure, vm, remediateapi.Applied)
	s.WantHardware(vm, 3, 4096)
	if h := s.VC.HardwareOf(vm); !h.CPUHotAdd || h.CoresPerSocket != 1 || len(d.Bad) != 1 || d.Bad[0].Category != placement.CategoryCoresPerSocket {
		t.Errorf("%+v, %s", h, sitetest.Pretty(d))
	}
	if a := lastDecision(s, vm); a.State != remediateapi.Applied || a.Kind != placement.KindReconfigure {
		t.Errorf("the attribute says %s", sitetest.Pretty(a))
	}
	s.Keep("tagged-and-applied", placement.WorkflowID(placement.KindResize, sitetest.Ref(vm), s.Queue), placement.WorkflowID(placement.KindReconfigure, sitetest.Ref(vm), s.Queue))
}

func TestAVMIsNeverMadeSmallerByAnAlarm(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	box := sitetest.NewMailbox(t)
	s.Rules = append(s.Rules, resizes(placement.AlarmOriginalCPU, placement.Resize{ReplyTo: box.URL}))
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 12, CoresPerSocket: 1})) // the original would have made it 4
	s.Works()
	s.TurnsRed(placement.AlarmOriginalCPU, vm)
	s.Decided(placement.KindResize, vm, remediateapi.AtLimit)
	wantWish(s, vm, placement.CategoryCPUs, "")
	s.WantHardware(vm, 12, 16<<10)
	if kinds, _ := box.Events(t, 1); kinds[0] != remediateapi.AtLimit {
		t.Errorf("events %v", kinds)
	}
}

func TestAHotAddThatVCenterRefusesIsLeftAsATag(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t, resizes("memory", placement.Resize{Resource: placement.Memory, Mode: placement.ModeHotOrOff}))
	vms := s.VC.TaggedVMs("")
	s.Must(s.VC.SetHardware(vms[0].Ref, simulation.Hardware{MemoryMB: 2048, MemoryHotAdd: true, Linux: true})) // 3 GB at most, hot
	s.Must(s.VC.SetHardware(vms[1].Ref, simulation.Hardware{MemoryMB: 8192, MemoryHotAdd: true}))
	s.VC.FailTaskOf("ReconfigVM_Task", vms[1].Ref, &types.MemoryHotPlugNotSupported{}, 1)
	s.Works()
	s.TurnsRed("memory", vms[0].Ref)
	s.Decided(placement.KindResize, vms[0].Ref, remediateapi.Applied)
	s.WantHardware(vms[0].Ref, 4, 3072)
	s.TurnsRed("memory", vms[1].Ref)
	s.Decided(placement.KindResize, vms[1].Ref, remediateapi.Deferred)
	s.WantHardware(vms[1].Ref, 4, 8192)
	wantWish(s, vms[1].Ref, placement.CategoryMemory, "10240")
}

func TestAfterAHotAddNoOlderWishMakesTheVMSmaller(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t, resizes("cpu", placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotOrOff}), sitetest.Reconfigures())
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 4, CoresPerSocket: 1, CPUHotAdd: true}))
	s.Must(s.VC.SetTags(vm, placement.CategoryCPUs, "2"))
	s.Works()
	s.TurnsRed("cpu", vm)
	s.Decided(placement.KindResize, vm, remediateapi.Applied)
	s.Must(s.VC.PowerOffAs(vm, "owner@example.org"))
	s.Report(placement.KindReconfigure, vm)
	s.WantHardware(vm, 5, 16<<10)
}

func TestTwoAlarmsAtOnceOnOneVMAreRemediedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t, resizes(placement.AlarmCPU, placement.Resize{Mode: placement.ModeHotOrOff}), resizes(placement.AlarmMemory, placement.Resize{Mode: placement.ModeHotOrOff}))
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, MemoryMB: 4096, CPUHotAdd: true, MemoryHotAdd: true}))
	s.Works()
	s.TurnsRed(placement.AlarmCPU, vm)
	s.TurnsRed(placement.AlarmMemory, vm)
	s.Eventually("both are added", func() bool { h := s.VC.HardwareOf(vm); return h.CPUs == 3 && h.MemoryMB == 5120 })
	s.Report(placement.KindResize, vm)
	if st := s.Ledger(); len(st.Reserved) > 0 {
		t.Errorf("the ledger still holds %v", st.Reserved)
	}
}

func TestAnEventCountsOnceAndTheCooldownHolds(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	s.Worker()
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	grow := func(id string) placement.Request {
		return sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) {
			r.ID, r.Resize = id, &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotAdd}
		})
	}
	states := func(r remediateapi.Report) (all []remediateapi.State) {
		for _, d := range r.Decisions {
			all = append(all, d.State)
		}
		return all
	}
	if got := states(s.ByRequest(grow("event-1"))); len(got) != 1 || got[0] != remediateapi.Applied {
		t.Fatalf("first %v", got)
	}
	before := lastDecision(s, vm)
	r := s.ByRequest(grow("event-1"))
	if d := r.Decisions[0]; d.State != remediateapi.Skipped || !strings.Contains(d.Reason, "before") {
		t.Errorf("the same event again: %s", sitetest.Pretty(d))
	}
	if a := lastDecision(s, vm); !a.EndedAt.Equal(before.EndedAt) {
		t.Errorf("the redelivered event wrote %s", sitetest.Pretty(a))
	}
	r = s.ByRequest(grow("event-2"))
	if d := r.Decisions[0]; d.State != remediateapi.Skipped || d.Until.Before(time.Now().Add(20*time.Minute)) {
		t.Errorf("within the cooldown: %s", sitetest.Pretty(d))
	}
	s.WantHardware(vm, 3, 16<<10)
}

func TestTheCircuitBreakerLeavesOnlyRecommendations(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	s.Remedy.PerHour = 2
	s.Worker()
	vms := s.VC.TaggedVMs("")
	for i, want := range []remediateapi.State{remediateapi.Applied, remediateapi.Applied, remediateapi.Planned} {
		s.Must(s.VC.SetHardware(vms[i].Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
		r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vms[i].Ref, func(r *placement.Request) {
			r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotAdd}
		}))
		if d := r.Decisions[0]; d.State != want {
			t.Errorf("VM %d: %s", i, sitetest.Pretty(d))
		}
	}
	s.WantHardware(vms[2].Ref, 2, 16<<10)
}

func TestWhoOnlyObservesChangesNoVM(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	s.Remedy.Observe = true
	s.Worker()
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	version := s.VC.ChangeVersion(vm)
	r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) {
		r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotAdd}
	}))
	if d := r.Decisions[0]; d.State != remediateapi.Planned || d.Annotated || s.VC.ChangeVersion(vm) != version {
		t.Errorf("%s", sitetest.Pretty(d))
	}
	if _, ok := s.VC.Attribute(vm, remediateapi.Attribute); ok {
		t.Error("the VM was annotated")
	}
}

func TestRubbishHarmsNoRemediation(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	s.Worker()
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	id := placement.WorkflowID(placement.KindResize, sitetest.Ref(vm), s.Queue)
	opts := client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}
	for _, rubbish := range []any{
		"no request", 42,
		[]byte{0xff, 0},
		strings.Repeat("x", 300<<10), nil,
		map[string]any{"kind": "move"},
		placement.Request{Kind: "resize"},
		placement.Request{VM: vsphere.Ref{Type: "Folder", Value: "group-1"}},
		sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) { r.Resize = &placement.Resize{Resource: "disk"} }),
		sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) { r.TaskQueue = "another" }),
		sitetest.RemedyRequest(placement.KindResize, types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-999999"}, func(r *placement.Request) {
			r.Resize = &placement.Resize{Resource: placement.CPU}
		}),
	} {
		_, err := s.Temporal.SignalWithStartWorkflow(t.Context(), id, placement.Signal, rubbish, opts, placement.ResizeType)
		s.Must(err)
	}
	s.Report(placement.KindResize, vm)
	s.Keep("rubbish", id)
	r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) {
		r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotAdd}
	}))
	if d := r.Decisions[len(r.Decisions)-1]; d.State != remediateapi.Applied {
		t.Errorf("after the rubbish: %s", sitetest.Pretty(d))
	}
}

func TestAResizeWaitsForAPreemptionAndLooksAgain(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithPolicy(func(p *policy.Policy) {
		p.Criticality.Medium = policy.Treatment{Action: action.ShutdownGuest, Notice: clock.Duration(3 * time.Second), GracePeriod: clock.Duration(2 * time.Second), ThenForce: true}
	}))
	s.Worker()
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	s.Reaches(s.Started("alarm"), preemptapi.RoundNotified)
	r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) {
		r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotOrOff}
	}))
	sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundCompleted, 3)
	if d := r.Decisions[0]; d.State != remediateapi.Deferred || d.Tag != placement.CategoryCPUs+"=3" {
		t.Errorf("it was off when the resize had it: %s", sitetest.Pretty(d))
	}
	s.Keep("waited", placement.WorkflowID(placement.KindResize, sitetest.Ref(vm), s.Queue))
	s.WantHardware(vm, 2, 16<<10)
}

func TestACloudEventOfAVMsAlarmResizesItOnceHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t, resizes(placement.AlarmCPU, placement.Resize{Mode: placement.ModeHotAdd}))
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	s.Worker()
	url := s.Receiver()
	ev, err := s.VC.PostAlarm(t.Context(), simulation.AlarmChange{Name: placement.AlarmCPU, Entity: vm, From: "green", To: "red"})
	s.Must(err)
	for range 3 {
		s.Bring(url, sitetest.Sourced(t, s.VC.URL(), ev))
	}
	s.Eventually("it is larger", func() bool { return s.VC.HardwareOf(vm).CPUs == 3 })
	r := s.Report(placement.KindResize, vm)
	for _, d := range r.Decisions[1:] {
		if d.State != remediateapi.Skipped {
			t.Errorf("the event came again: %s", sitetest.Pretty(d))
		}
	}
	s.WantHardware(vm, 3, 16<<10)
}

func TestAPlanChangesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	s.Worker()
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
	version := s.VC.ChangeVersion(vm)
	r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) {
		r.DryRun, r.Resize = true, &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotAdd}
	}))
	if d := r.Decisions[0]; d.State != remediateapi.Planned || d.After.CPUs != 3 || s.VC.ChangeVersion(vm) != version || len(s.VC.TagsOf(vm)[placement.CategoryCPUs]) > 0 {
		t.Errorf("%s", sitetest.Pretty(d))
	}
}
