package ledger

import (
	"slices"
	"testing"
)

const (
	host1    = "HostSystem:host-1"
	host2    = "HostSystem:host-2"
	cluster1 = "ClusterComputeResource:domain-c1"
	cluster2 = "ClusterComputeResource:domain-c2"
)

func askWithin(id, scope, within string, rank int) AdmitRequest {
	r := ask(id, scope, rank)
	r.Within = within
	return r
}

func TestAHostsScopeOverlapsThatOfItsCluster(t *testing.T) {
	cases := map[string]struct {
		first, second AdmitRequest
		want          Verdict
	}{
		"the cluster waits for its host":             {askWithin("1", host1, cluster1, 3), ask("2", cluster1, 3), Busy},
		"the host waits for its cluster":             {ask("1", cluster1, 3), askWithin("2", host1, cluster1, 3), Busy},
		"another cluster does not wait":              {askWithin("1", host1, cluster1, 3), ask("2", cluster2, 3), Granted},
		"another host of the cluster does not wait":  {askWithin("1", host1, cluster1, 3), askWithin("2", host2, cluster1, 3), Granted},
		"a host whose cluster nobody knows waits":    {ask("1", cluster1, 3), askWithin("2", host1, WithinUnknown, 3), Busy},
		"clusters wait for such a host":              {askWithin("1", host1, WithinUnknown, 3), ask("2", cluster2, 3), Busy},
		"hosts do not wait for such a host":          {askWithin("1", host1, WithinUnknown, 3), askWithin("2", host2, cluster1, 3), Granted},
		"one VM does not wait for such a host":       {askWithin("1", host1, WithinUnknown, 3), ask("2", "VirtualMachine:web", 3), Granted},
		"what was recorded before goes on as it did": {ask("1", host1, 3), ask("2", cluster1, 3), Granted},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var s State
			if got := s.Admit(at(0), c.first); got.Verdict != Granted {
				t.Fatalf("the first: %+v", got)
			}
			s = roundTrip(t, s)
			if got := s.Admit(at(1), c.second); got.Verdict != c.want {
				t.Errorf("the second: %+v, want %s", got, c.want)
			}
		})
	}
}

func TestTheCooldownOfAHostHoldsItsClusterBack(t *testing.T) {
	var s State
	s.Admit(at(0), askWithin("1", host1, cluster1, 3))
	s.Complete(at(10), end("1", host1, 2, 3))
	if got := s.Admit(at(11), ask("2", cluster1, 3)); got.Verdict != Cooldown || !got.Until.Equal(at(70)) {
		t.Errorf("%+v", got)
	}
	if got := s.Admit(at(11), ask("3", cluster2, 3)); got.Verdict != Granted {
		t.Errorf("%+v", got)
	}
}

func TestAHostThatMovedIsInItsNewCluster(t *testing.T) {
	var s State
	s.Admit(at(0), askWithin("1", host1, cluster1, 3))
	s.Complete(at(1), end("1", host1, 0, 3))
	s.Admit(at(2), askWithin("2", host1, cluster2, 3))
	if got := s.Admit(at(3), ask("3", cluster1, 3)); got.Verdict != Granted {
		t.Errorf("its old cluster: %+v", got)
	}
	if got := s.Admit(at(3), ask("4", cluster2, 3)); got.Verdict != Busy {
		t.Errorf("its new cluster: %+v", got)
	}
}

func TestTheBudgetOfAClusterCountsWhatItsHostsGave(t *testing.T) {
	var s State
	s.Admit(at(0), askWithin("1", host1, cluster1, 3))
	s.Reserve(ReserveRequest{Owner: "round-1", VMs: []string{"VirtualMachine:vm-2"}, Loads: map[string]Load{"VirtualMachine:vm-2": {Host: host1}}, Scope: host1})
	before := s.Facts(at(1), FactsRequest{Owner: "other", Scope: cluster1})
	s.Evicted(at(2), EvictedRequest{Owner: "round-1", Scope: host1, Evicted: []Evicted{{VM: "VirtualMachine:vm-1", Host: host1}}})
	vms := func(scope string) (vms []string) {
		for _, e := range s.Facts(at(3), FactsRequest{Owner: "other", Scope: scope}).Evictions {
			vms = append(vms, e.VM)
		}
		return vms
	}
	if got := vms(cluster1); !slices.Equal(got, []string{"VirtualMachine:vm-1", "VirtualMachine:vm-2"}) {
		t.Errorf("its cluster counts %v", got)
	}
	if got := vms(cluster2); got != nil {
		t.Errorf("another cluster counts %v", got)
	}
	if got := s.Facts(at(3), FactsRequest{Owner: "other", Scope: cluster1}).Active; !slices.Equal(got, []string{"round-1"}) {
		t.Errorf("active in its cluster: %v", got)
	}
	stale := s.Reserve(ReserveRequest{Owner: "other", VMs: []string{"VirtualMachine:vm-3"}, Seen: before.Version, Scope: cluster1})
	if !stale.Stale {
		t.Error("a plan of the cluster from before is not stale")
	}
}

func TestWhereAHostIsIsForgottenWithTheHost(t *testing.T) {
	var s State
	s.Admit(at(0), askWithin("1", host1, cluster1, 3))
	s.Evicted(at(1), EvictedRequest{Owner: "round-1", Scope: host1, Evicted: []Evicted{{VM: "VirtualMachine:vm-1"}}})
	s.Complete(at(2), end("1", host1, 1, 3))
	s.forget(at(24*3600 - 10))
	if s.Within[host1] != cluster1 {
		t.Error("forgotten while its evictions count")
	}
	s.forget(at(48 * 3600))
	if len(s.Within) != 0 {
		t.Errorf("still known: %v", s.Within)
	}
}

func TestAnAlarmOfAHostHoldsBackTheRestoreOfItsCluster(t *testing.T) {
	var s State
	s.SetActive(at(0), ActiveRequest{Owner: "intake", Alarm: "cpu", Scopes: []string{host1}, Within: map[string]string{host1: cluster1}})
	s = roundTrip(t, s)
	s.forget(at(1))
	if got := s.activeIn(cluster1); len(got) != 1 {
		t.Errorf("active in its cluster: %+v", got)
	}
	if got := s.activeIn(cluster2); got != nil {
		t.Errorf("active in another cluster: %+v", got)
	}
	s.SetActive(at(2), ActiveRequest{Owner: "intake"})
	if s.forget(at(3)); len(s.Within) != 0 {
		t.Errorf("still known: %v", s.Within)
	}
}
