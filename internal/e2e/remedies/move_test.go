package remedies

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// used is how full a datastore is, in percent.
func used(s *sitetest.Site, name string) int {
	d := s.VC.Datastore(name)
	return int(100 * (d.CapacityBytes - d.FreeBytes) / d.CapacityBytes)
}

func TestAFullDatastoreIsRelievedByTheSmallestThatSuffice(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	box := sitetest.NewMailbox(t)
	s.Rules = append(s.Rules, moves(placement.AlarmDatastore, placement.Move{ReplyTo: box.URL}))
	vms := s.VC.TaggedVMs("")
	ds := s.Full(vms, 300, 220, 100, 30) // 90 % down to 70 %: 200 GB at least
	total := s.VC.TotalUsed()
	s.Works()
	s.TurnsRed(placement.AlarmDatastore, ds)
	d := s.Decided(placement.KindMove, ds, remediateapi.Applied)
	if d.VM != sitetest.Ref(vms[1].Ref) || s.DisksOn(vms[1].Ref, ds) || !s.DisksOn(vms[0].Ref, ds) || !s.DisksOn(vms[2].Ref, ds) {
		t.Errorf("want %s moved alone: %s", vms[1].Name, sitetest.Pretty(d))
	}
	if now := s.VC.TotalUsed(); now != total {
		t.Errorf("%d bytes are used in all, %d before", now, total)
	}
	if used(s, "full") > 70 {
		t.Errorf("the datastore is %d %% used", used(s, "full"))
	}
	s.Keep("relieved", placement.WorkflowID(placement.KindMove, sitetest.Ref(ds), s.Queue))
	if a := lastDecision(s, vms[1].Ref); a.State != remediateapi.Applied || a.Move == nil || a.Cause.Alarm != placement.AlarmDatastore {
		t.Errorf("the attribute says %s", sitetest.Pretty(a))
	}
	if kinds, _ := box.Events(t, 1); kinds[0] != remediateapi.Applied {
		t.Errorf("events %v", kinds)
	}
}

func TestWhatCannotMoveStaysAndIsTold(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(8))
	vms := s.VC.TaggedVMs("")
	ds := s.Full(vms, 100, 100, 100, 100)
	disk := func(i int, o simulation.DiskOptions) {
		o.CapacityGB, o.UsedGB, o.Datastore = 10, 10, ds
		_, err := s.VC.AddDisk(vms[i].Ref, o)
		s.Must(err)
	}
	s.Must(s.VC.AddSnapshot(vms[0].Ref))
	s.Must(s.VC.AttachISO(vms[1].Ref, ds, "iso/linux.iso"))
	s.Must(s.VC.SetFaultTolerant(vms[2].Ref))
	s.Must(s.VC.SetTags(vms[3].Ref, placement.CategoryMode, placement.ModeOff))
	disk(4, simulation.DiskOptions{Independent: true})
	disk(5, simulation.DiskOptions{Raw: true})
	disk(6, simulation.DiskOptions{Shared: true})
	disk(7, simulation.DiskOptions{LinkedClone: true})
	s.Worker()
	d := s.ByRequest(sitetest.RemedyRequest(placement.KindMove, ds, nil)).Decisions[0]
	if d.State != remediateapi.Infeasible {
		t.Fatalf("%s", sitetest.Pretty(d))
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
			s := sitetest.Remedied(t)
			for i := range 2 { // those of the cluster are no choice
				s.Must(s.VC.SetDatastoreMaintenance(s.VC.Datastore(fmt.Sprintf("datastore-a-%d", i+1)).Ref, true))
			}
			ds := s.Full(s.VC.TaggedVMs(""), 220)
			o.Name = "other"
			_, err := s.VC.AddDatastore("cluster-a", o)
			s.Must(err)
			s.Worker()
			d := s.ByRequest(sitetest.RemedyRequest(placement.KindMove, ds, nil)).Decisions[0]
			if d.State != remediateapi.Infeasible || len(d.Stay) != 1 || d.Stay[0].Reason != "no_destination" || d.Stay[0].Detail == "" {
				t.Errorf("%s", sitetest.Pretty(d))
			}
		})
	}
}

func TestAVMsOwnStorageAlarmMovesThatVM(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t, moves(placement.AlarmOriginalStorage, placement.Move{}))
	vms := s.VC.TaggedVMs("")
	ds := s.Full(vms, 100, 100)
	s.Works()
	s.TurnsRed(placement.AlarmOriginalStorage, vms[1].Ref)
	s.Decided(placement.KindMove, vms[1].Ref, remediateapi.Applied)
	if s.DisksOn(vms[1].Ref, ds) || !s.DisksOn(vms[0].Ref, ds) {
		t.Error("want the second alone moved")
	}
	s.TurnsRed(placement.AlarmOriginalStorage, vms[1].Ref)
	s.Eventually("the cooldown of a day keeps it where it is", func() bool {
		r := s.Report(placement.KindMove, vms[1].Ref)
		d := r.Decisions[len(r.Decisions)-1]
		return d.State != remediateapi.Applied && strings.Contains(sitetest.Pretty(d), "not again before")
	})
}

func TestStorageDRSIsAskedFirstAndWhereItIsManualItIsOnlyRecommended(t *testing.T) {
	t.Parallel()
	for _, automated := range []bool{true, false} {
		s := sitetest.Remedied(t)
		vms := s.VC.TaggedVMs("")
		_, err := s.VC.AddPod("pod", automated, true)
		s.Must(err)
		source, err := s.VC.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "source", CapacityGB: 1000, UsedGB: 700, Pod: "pod"})
		s.Must(err)
		_, err = s.VC.AddDisk(vms[0].Ref, simulation.DiskOptions{CapacityGB: 220, UsedGB: 220, Datastore: source})
		s.Must(err)
		_, err = s.VC.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "emptiest", CapacityGB: 4000, Pod: "pod"})
		s.Must(err)
		other, err := s.VC.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "other", CapacityGB: 2000, UsedGB: 100, Pod: "pod"})
		s.Must(err)
		s.VC.RecommendedWith(other)
		s.Worker()
		d := s.ByRequest(sitetest.RemedyRequest(placement.KindMove, source, nil)).Decisions[0]
		switch {
		case automated && (d.State != remediateapi.Applied || !s.DisksOn(vms[0].Ref, other)):
			t.Errorf("want the datastore that Storage DRS recommends: %s", sitetest.Pretty(d))
		case !automated && (d.State != remediateapi.Planned || !s.DisksOn(vms[0].Ref, source) || len(d.Plan) != 1):
			t.Errorf("want a recommendation: %s", sitetest.Pretty(d))
		}
	}
}

func TestAnAlarmStormOfADatastoreStaysWithinTheBounds(t *testing.T) {
	t.Parallel()
	n, storm := sitetest.Sized(200, 20), sitetest.Sized(200, 20) // VMs on the datastore, alarms
	s := sitetest.New(t, sitetest.OneCluster(n))
	vms := s.VC.TaggedVMs("")
	ds, err := s.VC.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "full", CapacityGB: 1000, UsedGB: 710 - n})
	s.Must(err)
	for _, vm := range vms {
		_, err := s.VC.AddDisk(vm.Ref, simulation.DiskOptions{CapacityGB: 1, UsedGB: 1, Datastore: ds})
		s.Must(err)
	}
	total := s.VC.TotalUsed()
	s.VC.SetRelocateTime(20 * time.Millisecond)
	s.Remedy.PerHour = 0
	s.Rules = append(s.Rules, moves("storage", placement.Move{}))
	s.Works()
	for i := range storm { // of the datastore, and again and again of a tenth of its VMs
		if s.TurnsRed("storage", ds); i%2 == 0 {
			s.TurnsRed("storage", vms[i%(n/10)].Ref)
		}
	}
	for i, vm := range vms[:n/10] {
		if i%2 == 0 && s.Report(placement.KindMove, vm.Ref).Decisions[0].State == remediateapi.Failed {
			t.Errorf("%s failed", vm.Name)
		}
	}
	s.Report(placement.KindMove, ds)
	perSource, perHost, at := s.VC.MaxMoves()
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
	if at > 4 || s.VC.TotalUsed() != total {
		t.Errorf("%d moves at once; %d bytes used in all, %d before", at, s.VC.TotalUsed(), total)
	}
	if st := s.Ledger(); len(st.Reserved) > 0 {
		t.Errorf("the ledger still holds %v", st.Reserved)
	}
}

func TestMovesOffSeveralDatastoresAreBoundedTogether(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(12))
	s.VC.SetRelocateTime(3 * time.Second)
	_, err := s.VC.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "empty", CapacityGB: 20000})
	s.Must(err)
	vms := s.VC.TaggedVMs("")
	s.Worker()
	var ids []string
	for i := range 6 {
		ds, err := s.VC.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: fmt.Sprintf("full-%d", i), CapacityGB: 1000, UsedGB: 500})
		s.Must(err)
		for _, vm := range vms[2*i : 2*i+2] {
			_, err := s.VC.AddDisk(vm.Ref, simulation.DiskOptions{CapacityGB: 200, UsedGB: 200, Datastore: ds})
			s.Must(err)
		}
		req := sitetest.RemedyRequest(placement.KindMove, ds, func(r *placement.Request) { r.Move = &placement.Move{TargetUsage: 60} })
		id := placement.WorkflowID(placement.KindMove, req.Source, s.Queue)
		_, err = s.Temporal.SignalWithStartWorkflow(t.Context(), id, placement.Signal, req,
			client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, placement.MoveType)
		s.Must(err)
		ids = append(ids, id)
	}
	for _, id := range ids {
		for _, d := range s.ReportOf(id).Decisions {
			if d.State != remediateapi.Applied {
				t.Errorf("%s: %s", id, sitetest.Pretty(d))
			}
		}
	}
	s.Keep("in-line", ids[len(ids)-1])
	_, perHost, at := s.VC.MaxMoves()
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
	s := sitetest.Remedied(t)
	vms := s.VC.TaggedVMs("")
	ds := s.Full(vms, 220)
	s.VC.SetRelocateTime(4 * time.Second)
	s.Worker()
	req := sitetest.RemedyRequest(placement.KindMove, ds, nil)
	id := placement.WorkflowID(req.Kind, req.Source, s.Queue)
	_, err := s.Temporal.SignalWithStartWorkflow(t.Context(), id, placement.Signal, req,
		client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, placement.MoveType)
	s.Must(err)
	s.Eventually("it moves", func() bool { return s.VC.Moving() == 1 })
	r := s.Preempt(preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 3)
	if why := r.Spared; len(why) != 1 || why[0].Ref != sitetest.Ref(vms[0].Ref) {
		t.Errorf("spared %s", sitetest.Pretty(why))
	}
	if d := s.ReportOf(id).Decisions[0]; d.State != remediateapi.Applied || !s.On(vms[0]) {
		t.Errorf("%s", sitetest.Pretty(d))
	}
}

func TestAVCenterThatGoesAwayDuringAMoveIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	vms := s.VC.TaggedVMs("")
	ds := s.Full(vms, 220)
	s.VC.SetRelocateTime(2 * time.Second)
	s.Worker()
	s.OnCall("RelocateVM_Task", 1, func(types.ManagedObjectReference) {
		go func() {
			time.Sleep(300 * time.Millisecond)
			s.VC.Outage()
			time.Sleep(2500 * time.Millisecond)
			s.VC.Recover()
		}()
	})
	d := s.ByRequest(sitetest.RemedyRequest(placement.KindMove, ds, nil)).Decisions[0]
	if d.State != remediateapi.Applied || s.DisksOn(vms[0].Ref, ds) {
		t.Errorf("%s", sitetest.Pretty(d))
	}
	if n := s.Calls("RelocateVM_Task"); n != 1 {
		t.Errorf("it was moved %d times", n)
	}
}
