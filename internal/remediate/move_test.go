package remediate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const gib = int64(1) << 30

var (
	host  = vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}
	full  = vsphere.Ref{Type: vsphere.TypeDatastore, Value: "datastore-1"}
	roomy = vsphere.Ref{Type: vsphere.TypeDatastore, Value: "datastore-2"}
	other = vsphere.Ref{Type: vsphere.TypeDatastore, Value: "datastore-3"}
)

func datastore(ref vsphere.Ref, used int64) placement.Datastore {
	return placement.Datastore{
		Ref: ref, Name: "store-" + ref.Value[10:], Kind: "VMFS", Accessible: true, Capacity: 1000 * gib, Free: (1000 - used) * gib,
		Provisioned: used * gib, Hosts: []vsphere.Ref{host},
	}
}

// storing is a site with a datastore of 1000 GiB, of which 890 are used, and VMs of 100 GiB on it.
func storing(t *testing.T, vms int) *site {
	t.Helper()
	s := newSite(t)
	cluster := vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c1"}
	s.storage = placement.Storage{
		Time: time.Now(), Datastores: []placement.Datastore{datastore(full, 890), datastore(roomy, 100), datastore(other, 200)},
		Hosts: map[string]vsphere.Ref{host.String(): cluster}, Clusters: map[string][]vsphere.Ref{cluster.String(): {host}},
	}
	for n := range vms {
		vm := web(n + 1)
		vm.Host, vm.Cluster = host, cluster
		s.vms[vm.Ref] = &vm
		disk := placement.Disk{Label: "Hard disk 1", Datastore: full, Used: 100 * gib, Provisioned: 100 * gib}
		s.storage.VMs = append(s.storage.VMs, placement.StoredVM{VM: vm, Home: full, Disks: []placement.Disk{disk}})
	}
	return s
}

func (s *site) Datastore(_ context.Context, name string) (vsphere.Ref, error) {
	for _, d := range s.storage.Datastores {
		if d.Name == name {
			return d.Ref, nil
		}
	}
	return vsphere.Ref{}, fault(vcenter.NotFound)
}

func (s *site) Storage(_ context.Context, source, vm vsphere.Ref) (placement.Storage, error) {
	err := s.act("storage")
	st := s.storage
	st.VMs = nil
	for _, v := range s.storage.VMs {
		if v.Ref == vm || vm.Zero() && v.Home == source {
			st.VMs = append(st.VMs, v)
		}
	}
	return st, err
}

func (s *site) RecommendDatastore(context.Context, vsphere.Ref, vsphere.Ref) (vsphere.Ref, bool, error) {
	return s.recommend, !s.recommend.Zero(), s.act("recommend")
}

func (s *site) Relocate(_ context.Context, vm, source, destination vsphere.Ref) (vsphere.Ref, error) {
	err := s.act("relocate")
	if err == nil {
		s.did("move %s to %s", vm.Value, destination.Value)
		s.relocated(vm, source, destination)
	}
	return task, err
}

// relocated takes the space of a VM from one datastore to the other.
func (s *site) relocated(vm, source, destination vsphere.Ref) {
	for i := range s.storage.VMs {
		if v := &s.storage.VMs[i]; v.Ref == vm {
			v.Home, v.Disks = destination, []placement.Disk{{Label: "Hard disk 1", Datastore: destination, Used: 100 * gib, Provisioned: 100 * gib}}
		}
	}
	for i := range s.storage.Datastores {
		switch d := &s.storage.Datastores[i]; d.Ref {
		case source:
			d.Free += 100 * gib
			d.Provisioned -= 100 * gib
		case destination:
			d.Free -= 100 * gib
			d.Provisioned += 100 * gib
		}
	}
}

func (s *site) RefreshDatastore(context.Context, vsphere.Ref) error { return s.act("refresh") }

// fullAlarm asks to bring the datastore below 75 percent, less the margin of 5 points.
func fullAlarm() placement.Request {
	return placement.Request{ID: "event-1", Kind: placement.KindMove, Source: full, Move: &placement.Move{TargetUsage: 75}}
}

func TestVMsLeaveAFullDatastoreUntilItsUseIsBelowTheTarget(t *testing.T) {
	s := storing(t, 4)
	s.fails["refresh"] = []error{fault(vcenter.NoPermission)} // which is not worth failing for
	all := s.decide(placement.KindMove, fullAlarm())
	if len(s.done) != 2 || len(all) != 2 {
		t.Fatalf("moved %v: %+v", s.done, all)
	}
	for _, d := range all {
		if d.State != remediateapi.Applied || !strings.HasPrefix(d.Reason, "moved from store-1 to store-2: ") || !d.Annotated {
			t.Errorf("%+v", d)
		}
	}
	if used := 1000 - s.storage.Datastores[0].Free/gib; used != 690 {
		t.Errorf("%d GiB are used after the moves", used)
	}
}

func TestWhatKeepsADatastoreAsItIsIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*site, *placement.Request)
		state  remediateapi.State
		reason string
	}{
		"a dry run":                {func(_ *site, r *placement.Request) { r.DryRun = true }, remediateapi.Planned, "2 VMs to move, web-"},
		"the mode is recommend":    {func(_ *site, r *placement.Request) { r.Move.Mode = placement.ModeRecommend }, remediateapi.Planned, "the rule only recommends"},
		"the worker only observes": {func(s *site, _ *placement.Request) { s.settings.Observe = true }, remediateapi.Planned, "only observes"},
		"it is not full":           {func(s *site, _ *placement.Request) { s.storage.Datastores[0].Free = 800 * gib }, remediateapi.Skipped, ""},
		"no VM may go":             {func(s *site, _ *placement.Request) { s.settings.NeverTouch = []string{"*"} }, remediateapi.Infeasible, ""},
		"the datastore is gone":    {func(s *site, _ *placement.Request) { s.fails["storage"] = []error{fault(vcenter.NotFound)} }, remediateapi.Infeasible, "NotFound"},
		"it may not be looked at":  {func(s *site, _ *placement.Request) { s.fails["storage"] = []error{fault(vcenter.NoPermission)} }, remediateapi.Failed, "plan the moves"},
		"another vCenter's datastore": {func(s *site, r *placement.Request) {
			s.foreign = "it is of another vCenter"
			r.Cause = placement.Cause{Alarm: placement.AlarmDatastore, Entity: full, VCenter: "elsewhere"}
		}, remediateapi.Skipped, "another vCenter"},
		"nobody knows the name": {func(_ *site, r *placement.Request) {
			r.Source, r.Target, r.TargetType = vsphere.Ref{}, "store-9", vsphere.TypeDatastore
		}, remediateapi.Failed, "NotFound"},
		"the same event came before": {func(s *site, _ *placement.Request) {
			s.ledger.RemedyFacts(time.Now(), ledger.RemedyFactsRequest{RequestID: "event-1", By: "another"})
		}, remediateapi.Skipped, "dealt with before"},
		"the ledger does not answer at first": {func(s *site, _ *placement.Request) {
			s.fails["reserve"] = []error{fault(vcenter.Invalid)}
		}, remediateapi.Applied, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, req := storing(t, 4), fullAlarm()
			c.change(s, &req)
			s.decided(req, c.state, c.reason)
			if c.state != remediateapi.Applied {
				s.wantDone()
			}
		})
	}
}

func TestADatastoreThatAPersonNamesIsEmptied(t *testing.T) {
	s := storing(t, 4)
	req := fullAlarm()
	req.Source, req.Target, req.TargetType = vsphere.Ref{}, "store-1", vsphere.TypeDatastore
	s.decided(req, remediateapi.Applied, "moved from store-1")
}

func TestAVMInAlarmLeavesItsDatastore(t *testing.T) {
	s := storing(t, 4)
	req := fullAlarm()
	req.Source, req.VM = vsphere.Ref{}, web(3).Ref
	s.decided(req, remediateapi.Applied, "")
	s.wantDone("move vm-3 to datastore-2")
}

func TestAVMThatAnotherHasOrThatMovedAShortTimeAgoStaysAndOthersGo(t *testing.T) {
	s := storing(t, 4)
	s.ledger.Remedy(time.Now(), ledger.RemedyRequest{Owner: "round-7", VM: web(1).Ref.String(), What: "evict"})
	moved := ledger.RemedyRequest{Owner: "move@x", VM: web(2).Ref.String(), What: placement.KindMove, Cooldown: 24 * time.Hour}
	s.ledger.Remedy(time.Now(), moved)
	s.ledger.Remedied(time.Now(), ledger.RemediedRequest{Owner: "move@x", VM: moved.VM, What: moved.What, Acted: true})
	req := fullAlarm()
	req.Move.Cooldown = clock.Duration(24 * time.Hour)
	s.decided(req, remediateapi.Applied, "")
	for _, done := range s.done {
		if strings.Contains(done, "vm-1 ") || strings.Contains(done, "vm-2 ") {
			t.Errorf("it was asked to %s", done)
		}
	}
	if len(s.done) != 2 {
		t.Errorf("moved %v", s.done)
	}
}

func TestAVMThatIsTakenBetweenPlanAndMoveIsLeftAndAnotherGoes(t *testing.T) {
	s := storing(t, 4)
	taken := ""
	s.before["reserve"] = func() {
		taken = web(1).Ref.String()
		for _, vm := range []int{1, 2, 3} {
			s.ledger.Remedy(s.env.Now(), ledger.RemedyRequest{Owner: "round-7", VM: web(vm).Ref.String(), What: "evict"})
		}
	}
	s.decide(placement.KindMove, fullAlarm())
	if taken == "" || len(s.done) != 1 || !strings.HasPrefix(s.done[0], "move vm-4") {
		t.Errorf("moved %v", s.done)
	}
}

func TestAMoveThatWasPlannedFromWhatHasChangedIsPlannedAnewOrWaits(t *testing.T) {
	flight := ledger.RemedyRequest{
		Owner: "move@other", VM: web(9).Ref.String(), What: placement.KindMove,
		Flight: &placement.Flight{VM: web(9).Ref, Source: full, Destination: other, Host: host},
	}
	for name, perDatastore := range map[string]int{"it waits in line": 1, "it is planned anew": 5} {
		t.Run(name, func(t *testing.T) {
			s := storing(t, 4)
			s.settings.Moves.PerDatastore = perDatastore
			s.before["reserve"] = func() { s.ledger.Remedy(s.env.Now(), flight) }
			s.env.RegisterDelayedCallback(func() {
				s.ledger.Remedied(s.env.Now(), ledger.RemediedRequest{Owner: flight.Owner, VM: flight.VM, What: flight.What, Acted: true})
			}, 10*time.Minute)
			s.decided(fullAlarm(), remediateapi.Applied, "moved from store-1")
			if len(s.done) != 2 {
				t.Errorf("moved %v", s.done)
			}
		})
	}
}

func TestAVMThatMovedBetweenPlanAndMoveIsLeft(t *testing.T) {
	s := storing(t, 4)
	moved := ledger.RemedyRequest{Owner: "move@other", VM: web(4).Ref.String(), What: placement.KindMove, Cooldown: 24 * time.Hour}
	s.before["reserve"] = func() {
		s.ledger.Remedy(s.env.Now(), moved)
		s.ledger.Remedied(s.env.Now(), ledger.RemediedRequest{Owner: moved.Owner, VM: moved.VM, What: moved.What, Acted: true})
	}
	req := fullAlarm()
	req.Move.Cooldown = clock.Duration(24 * time.Hour)
	s.decided(req, remediateapi.Applied, "")
	for _, done := range s.done {
		if strings.HasPrefix(done, "move vm-4 ") {
			t.Errorf("it was moved again: %v", s.done)
		}
	}
}

func TestAfterThreeMovesThatFailedItGivesUp(t *testing.T) {
	s := storing(t, 8)
	no := fault(vcenter.NoPermission)
	s.fails["relocate"] = []error{no, no, no, no}
	all := s.decide(placement.KindMove, fullAlarm())
	last := all[len(all)-1]
	if len(all) != 4 || last.State != remediateapi.Failed || last.Reason != "given up after 3 moves, 3 of them failed" {
		t.Errorf("%+v", all)
	}
	s.wantDone()
}

func TestStorageDRSIsHeardWhereItAutomatesTheDatastores(t *testing.T) {
	pod := vsphere.Ref{Type: "StoragePod", Value: "group-p1"}
	for name, c := range map[string]struct {
		recommend vsphere.Ref
		err       error
		want      string
	}{
		"it names another":            {other, nil, "move vm-1 to datastore-3"},
		"it names none":               {vsphere.Ref{}, nil, "move vm-1 to datastore-2"},
		"it names the full one":       {full, nil, "move vm-1 to datastore-2"},
		"it cannot be asked":          {other, fault(vcenter.NoPermission), "move vm-1 to datastore-2"},
		"it is away, and comes again": {other, fault(vcenter.Unavailable), "move vm-1 to datastore-3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := storing(t, 1)
			for i := range s.storage.Datastores {
				s.storage.Datastores[i].Pod, s.storage.Datastores[i].PodMode = pod, placement.PodAutomated
			}
			s.recommend = c.recommend
			if c.err != nil {
				s.fails["recommend"] = []error{c.err}
			}
			req := fullAlarm()
			req.Source, req.VM = vsphere.Ref{}, web(1).Ref
			s.decide(placement.KindMove, req)
			s.wantDone(c.want)
		})
	}
}

func TestAMoveSurvivesAWorkerOrAVCenterThatStartsAnew(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*site)
		done   []string
		state  remediateapi.State
	}{
		"vCenter was away, and the move is done": {func(s *site) {
			s.running = true
			s.fails["await task"] = []error{fault(vcenter.Unavailable)}
		}, []string{"move vm-1 to datastore-2"}, remediateapi.Applied},
		"another operation is under way for a while": {func(s *site) {
			s.fails["relocate"] = []error{fault(vcenter.Busy), fault(vcenter.Busy)}
		}, []string{"move vm-1 to datastore-2"}, remediateapi.Applied},
		"vCenter has forgotten the task of a move that is done": {func(s *site) {
			s.fails["await task"] = []error{fault(vcenter.NotFound)}
		}, []string{"move vm-1 to datastore-2"}, remediateapi.Applied},
		"the VM is deleted meanwhile": {func(s *site) {
			s.before["relocate"] = func() { s.storage.VMs = nil }
			s.fails["relocate"] = []error{fault(vcenter.NotFound)}
		}, nil, remediateapi.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := storing(t, 1)
			c.change(s)
			req := fullAlarm()
			req.Source, req.VM = vsphere.Ref{}, web(1).Ref
			s.decided(req, c.state, "")
			s.wantDone(c.done...)
		})
	}
}

func TestWhatAnEarlierRunHeldIsGivenBack(t *testing.T) {
	s := storing(t, 4)
	id := "default-test-workflow-id"
	s.ledger.Remedy(time.Now(), ledger.RemedyRequest{Owner: id, VM: web(1).Ref.String(), What: placement.KindMove})
	s.decided(fullAlarm(), remediateapi.Applied, "")
	if len(s.ledger.Holds) != 0 {
		t.Errorf("still held: %v", s.ledger.Holds)
	}
}

func TestALongPlanTellsAHundredVMsAndCountsTheRest(t *testing.T) {
	s := storing(t, 150)
	s.settings.NeverTouch = []string{"web-*"}
	d := s.decided(fullAlarm(), remediateapi.Infeasible, "")
	if len(d.Stay) != 100 || d.StayCount["excluded"] != 150 {
		t.Errorf("%d are told, counts %v", len(d.Stay), d.StayCount)
	}
}

func TestALongMoveGoesOnInAnotherRun(t *testing.T) {
	s := storing(t, 4)
	s.env.SetContinueAsNewSuggested(true)
	remediate.Register(s.env, s.activities())
	s.env.ExecuteWorkflow(placement.MoveType, remediateapi.Input{Requests: []placement.Request{fullAlarm()}})
	if err := s.env.GetWorkflowError(); err == nil || !strings.Contains(fmt.Sprint(err), "continue as new") {
		t.Errorf("it ends with %v", err)
	}
	s.wantDone()
}
