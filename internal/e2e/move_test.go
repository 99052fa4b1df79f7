package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// full makes a datastore of 1000 GB for cluster-a that is 90 % used, by disks of the VMs of so many GB each and by
// what is no VM.
func (s *site) full(vms []simulation.VM, sizes ...int) types.ManagedObjectReference {
	s.t.Helper()
	rest := 900
	for _, gb := range sizes {
		rest -= gb
	}
	ds, err := s.vc.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "full", CapacityGB: 1000, UsedGB: rest})
	s.must(err)
	for i, gb := range sizes {
		_, err := s.vc.AddDisk(vms[i].Ref, simulation.DiskOptions{CapacityGB: gb, UsedGB: gb, Datastore: ds})
		s.must(err)
	}
	return ds
}

// used is how full a datastore is, in percent.
func (s *site) used(name string) int {
	d := s.vc.Datastore(name)
	return int(100 * (d.CapacityBytes - d.FreeBytes) / d.CapacityBytes)
}

// disksOn tells whether a VM keeps anything on a datastore.
func (s *site) disksOn(vm, ds types.ManagedObjectReference) bool {
	for _, on := range s.vc.StoredOn(vm) {
		if on == ds {
			return true
		}
	}
	return false
}

func TestAFullDatastoreIsRelievedByTheSmallestThatSuffice(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	box := newMailbox(t)
	s.rules = append(s.rules, moves(remedy.AlarmDatastore, remedy.Move{ReplyTo: box.URL}))
	vms := s.vc.TaggedVMs("")
	ds := s.full(vms, 300, 220, 100, 30) // 90 % down to 70 %: 200 GB at least
	total := s.vc.TotalUsed()
	s.works()
	s.turnsRed(remedy.AlarmDatastore, ds)
	d := s.decided(remedy.KindMove, ds, remediateapi.Applied)
	if d.VM != ref(vms[1].Ref) || s.disksOn(vms[1].Ref, ds) || !s.disksOn(vms[0].Ref, ds) || !s.disksOn(vms[2].Ref, ds) {
		t.Errorf("want %s moved alone: %s", vms[1].Name, pretty(d))
	}
	if now := s.vc.TotalUsed(); now != total {
		t.Errorf("%d bytes are used in all, %d before", now, total)
	}
	if s.used("full") > 70 {
		t.Errorf("the datastore is %d %% used", s.used("full"))
	}
	s.keep("relieved", remedy.WorkflowID(remedy.KindMove, ref(ds), s.queue))
	if a := s.lastDecision(vms[1].Ref); a.State != remediateapi.Applied || a.Move == nil || a.Cause.Alarm != remedy.AlarmDatastore {
		t.Errorf("the attribute says %s", pretty(a))
	}
	if kinds, _ := box.events(t, 1); kinds[0] != remediateapi.Applied {
		t.Errorf("events %v", kinds)
	}
}

func TestWhatCannotMoveStaysAndIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(8))
	vms := s.vc.TaggedVMs("")
	ds := s.full(vms, 100, 100, 100, 100)
	disk := func(i int, o simulation.DiskOptions) {
		o.CapacityGB, o.UsedGB, o.Datastore = 10, 10, ds
		_, err := s.vc.AddDisk(vms[i].Ref, o)
		s.must(err)
	}
	s.must(s.vc.AddSnapshot(vms[0].Ref))
	s.must(s.vc.AttachISO(vms[1].Ref, ds, "iso/linux.iso"))
	s.must(s.vc.SetFaultTolerant(vms[2].Ref))
	s.must(s.vc.SetTags(vms[3].Ref, remedy.CategoryMode, remedy.ModeOff))
	disk(4, simulation.DiskOptions{Independent: true})
	disk(5, simulation.DiskOptions{Raw: true})
	disk(6, simulation.DiskOptions{Shared: true})
	disk(7, simulation.DiskOptions{LinkedClone: true})
	s.worker()
	d := s.byRequest(asks(remedy.KindMove, ds, nil)).Decisions[0]
	if d.State != remediateapi.Infeasible {
		t.Fatalf("%s", pretty(d))
	}
	reasons := map[string]string{}
	for _, stay := range d.Stay {
		reasons[stay.Name] = stay.Reason
	}
	for i, want := range []string{"snapshots", "media_on_source", "fault_tolerant", "opted_out", "independent_disk", "raw_mapping", "shared_disk", "linked_clone"} {
		if got := reasons[vms[i].Name]; got != want {
			t.Errorf("%s stays for %q, want %q", vms[i].Name, got, want)
		}
	}
}

func TestNoDestinationIsFilledUpOrOutOfReach(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]simulation.DatastoreOptions{
		"too full afterwards":        {CapacityGB: 1000, UsedGB: 750},
		"too little free afterwards": {CapacityGB: 300, UsedGB: 40},
		"in maintenance":             {Maintenance: true},
		"not accessible":             {Inaccessible: true},
		"of another kind":            {Kind: "NFS"},
		"not mounted on every host":  {Hosts: []string{"esx-a-1", "esx-a-2"}},
		"hardly better":              {CapacityGB: 4000, UsedGB: 3000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := remedied(t)
			for i := range 2 { // those of the cluster are no choice
				s.must(s.vc.SetDatastoreMaintenance(s.vc.Datastore(fmt.Sprintf("datastore-a-%d", i+1)).Ref, true))
			}
			ds := s.full(s.vc.TaggedVMs(""), 220)
			o.Name = "other"
			_, err := s.vc.AddDatastore("cluster-a", o)
			s.must(err)
			s.worker()
			d := s.byRequest(asks(remedy.KindMove, ds, nil)).Decisions[0]
			if d.State != remediateapi.Infeasible || len(d.Stay) != 1 || d.Stay[0].Reason != "no_destination" || d.Stay[0].Detail == "" {
				t.Errorf("%s", pretty(d))
			}
		})
	}
}

func TestAVMsOwnStorageAlarmMovesThatVM(t *testing.T) {
	t.Parallel()
	s := remedied(t, moves(remedy.AlarmOriginalStorage, remedy.Move{}))
	vms := s.vc.TaggedVMs("")
	ds := s.full(vms, 100, 100)
	s.works()
	s.turnsRed(remedy.AlarmOriginalStorage, vms[1].Ref)
	s.decided(remedy.KindMove, vms[1].Ref, remediateapi.Applied)
	if s.disksOn(vms[1].Ref, ds) || !s.disksOn(vms[0].Ref, ds) {
		t.Error("want the second alone moved")
	}
	s.turnsRed(remedy.AlarmOriginalStorage, vms[1].Ref)
	s.eventually("the cooldown of a day keeps it where it is", func() bool {
		r := s.report(remedy.KindMove, vms[1].Ref)
		d := r.Decisions[len(r.Decisions)-1]
		return d.State != remediateapi.Applied && strings.Contains(pretty(d), "not again before")
	})
}

func TestStorageDRSIsAskedFirstAndWhereItIsManualItIsOnlyRecommended(t *testing.T) {
	t.Parallel()
	for _, automated := range []bool{true, false} {
		s := remedied(t)
		vms := s.vc.TaggedVMs("")
		_, err := s.vc.AddPod("pod", automated, true)
		s.must(err)
		source, err := s.vc.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "source", CapacityGB: 1000, UsedGB: 700, Pod: "pod"})
		s.must(err)
		_, err = s.vc.AddDisk(vms[0].Ref, simulation.DiskOptions{CapacityGB: 220, UsedGB: 220, Datastore: source})
		s.must(err)
		_, err = s.vc.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "emptiest", CapacityGB: 4000, Pod: "pod"})
		s.must(err)
		other, err := s.vc.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "other", CapacityGB: 2000, UsedGB: 100, Pod: "pod"})
		s.must(err)
		s.vc.RecommendedWith(other)
		s.worker()
		d := s.byRequest(asks(remedy.KindMove, source, nil)).Decisions[0]
		switch {
		case automated && (d.State != remediateapi.Applied || !s.disksOn(vms[0].Ref, other)):
			t.Errorf("want the datastore that Storage DRS recommends: %s", pretty(d))
		case !automated && (d.State != remediateapi.Planned || !s.disksOn(vms[0].Ref, source) || len(d.Plan) != 1):
			t.Errorf("want a recommendation: %s", pretty(d))
		}
	}
}

func TestAnAlarmStormOfADatastoreStaysWithinTheBounds(t *testing.T) {
	t.Parallel()
	n, storm := sized(200, 20), sized(200, 20) // VMs on the datastore, alarms
	s := newSite(t, oneCluster(n))
	vms := s.vc.TaggedVMs("")
	ds, err := s.vc.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "full", CapacityGB: 1000, UsedGB: 710 - n})
	s.must(err)
	for _, vm := range vms {
		_, err := s.vc.AddDisk(vm.Ref, simulation.DiskOptions{CapacityGB: 1, UsedGB: 1, Datastore: ds})
		s.must(err)
	}
	total := s.vc.TotalUsed()
	s.vc.SetRelocateTime(20 * time.Millisecond)
	s.remedy.PerHour = 0
	s.rules = append(s.rules, moves("storage", remedy.Move{}))
	s.works()
	for i := range storm { // of the datastore, and again and again of a tenth of its VMs
		if s.turnsRed("storage", ds); i%2 == 0 {
			s.turnsRed("storage", vms[i%(n/10)].Ref)
		}
	}
	for i, vm := range vms[:n/10] {
		if i%2 == 0 && s.report(remedy.KindMove, vm.Ref).Decisions[0].State == remediateapi.Failed {
			t.Errorf("%s failed", vm.Name)
		}
	}
	s.report(remedy.KindMove, ds)
	perSource, perHost, at := s.vc.MaxMoves()
	for name, most := range perSource {
		if most > 1 {
			t.Errorf("%d moves at once off %s", most, name)
		}
	}
	for name, most := range perHost {
		if most > 2 {
			t.Errorf("%d moves at once on %s", most, name)
		}
	}
	if at > 4 || s.vc.TotalUsed() != total {
		t.Errorf("%d moves at once; %d bytes used in all, %d before", at, s.vc.TotalUsed(), total)
	}
	if st := s.ledger(); len(st.Reserved) > 0 {
		t.Errorf("the ledger still holds %v", st.Reserved)
	}
}

func TestMovesOffSeveralDatastoresAreBoundedTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(12))
	s.vc.SetRelocateTime(3 * time.Second)
	_, err := s.vc.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "empty", CapacityGB: 20000})
	s.must(err)
	vms := s.vc.TaggedVMs("")
	s.worker()
	var ids []string
	for i := range 6 {
		ds, err := s.vc.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: fmt.Sprintf("full-%d", i), CapacityGB: 1000, UsedGB: 500})
		s.must(err)
		for _, vm := range vms[2*i : 2*i+2] {
			_, err := s.vc.AddDisk(vm.Ref, simulation.DiskOptions{CapacityGB: 200, UsedGB: 200, Datastore: ds})
			s.must(err)
		}
		req := asks(remedy.KindMove, ds, func(r *remedy.Request) { r.Move = &remedy.Move{TargetUsage: 60} })
		id := remedy.WorkflowID(remedy.KindMove, req.Source, s.queue)
		_, err = s.c.SignalWithStartWorkflow(t.Context(), id, remedy.Signal, req,
			client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, remedy.MoveType)
		s.must(err)
		ids = append(ids, id)
	}
	for _, id := range ids {
		for _, d := range s.reportOf(id).Decisions {
			if d.State != remediateapi.Applied {
				t.Errorf("%s: %s", id, pretty(d))
			}
		}
	}
	s.keep("in-line", ids[len(ids)-1])
	_, perHost, at := s.vc.MaxMoves()
	if at > 4 || at < 2 {
		t.Errorf("%d moves at once", at)
	}
	for name, most := range perHost {
		if most > 2 {
			t.Errorf("%d moves at once on %s", most, name)
		}
	}
}

func TestAVMThatMovesIsNotPreemptedMeanwhile(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	vms := s.vc.TaggedVMs("")
	ds := s.full(vms, 220)
	s.vc.SetRelocateTime(4 * time.Second)
	s.worker()
	req := asks(remedy.KindMove, ds, nil)
	id := remedy.WorkflowID(req.Kind, req.Source, s.queue)
	_, err := s.c.SignalWithStartWorkflow(t.Context(), id, remedy.Signal, req,
		client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, remedy.MoveType)
	s.must(err)
	s.eventually("it moves", func() bool { return s.vc.Moving() == 1 })
	r := s.preempt(preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 3)
	if why := r.Spared; len(why) != 1 || why[0].Ref != ref(vms[0].Ref) {
		t.Errorf("spared %s", pretty(why))
	}
	if d := s.reportOf(id).Decisions[0]; d.State != remediateapi.Applied || !s.on(vms[0]) {
		t.Errorf("%s", pretty(d))
	}
}

func TestAVCenterThatGoesAwayDuringAMoveIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	vms := s.vc.TaggedVMs("")
	ds := s.full(vms, 220)
	s.vc.SetRelocateTime(2 * time.Second)
	s.worker()
	s.onCall("RelocateVM_Task", 1, func(types.ManagedObjectReference) {
		go func() {
			time.Sleep(300 * time.Millisecond)
			s.vc.Outage()
			time.Sleep(2500 * time.Millisecond)
			s.vc.Recover()
		}()
	})
	d := s.byRequest(asks(remedy.KindMove, ds, nil)).Decisions[0]
	if d.State != remediateapi.Applied || s.disksOn(vms[0].Ref, ds) {
		t.Errorf("%s", pretty(d))
	}
	if n := s.calls("RelocateVM_Task"); n != 1 {
		t.Errorf("it was moved %d times", n)
	}
}
