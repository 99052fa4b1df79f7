package policy_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var (
	wentOff  = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	clusterX = vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c1"}
)

func vmRef(value string) vsphere.Ref { return vsphere.Ref{Type: vsphere.TypeVM, Value: value} }

// offCase is what a restore is chosen from.
type offCase struct {
	snap   vsphere.Snapshot
	owned  []policy.Owned
	demand policy.ReturnDemand
	policy policy.Policy
}

// offSite has these VMs in one cluster of 10,000 MHz and 10,000 MB, all off for an hour by us, each with a load
// of 1,000 MHz and 500 MB.
func offSite(names ...string) *offCase {
	s := &offCase{policy: policy.Default()}
	s.policy.Restore = policy.DefaultRestore()
	s.snap = vsphere.Snapshot{Time: wentOff.Add(time.Hour), Scope: clusterX, ScopeName: "cluster-x", Hosts: []vsphere.Host{{
		Ref: vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}, Cluster: clusterX, Connected: true,
		CPUMHz: 10000, MemoryMB: 10000, CPUUsedMHz: 5000, MemoryUsedMB: 2000,
	}}}
	s.demand = policy.ReturnDemand{Tag: "spot", Scope: clusterX}
	for _, name := range names {
		s.snap.VMs = append(s.snap.VMs, vsphere.VM{
			Ref: vmRef(name), Name: name, PowerState: vsphere.PoweredOff, Tagged: true, Connected: true, Cluster: clusterX, InstanceUUID: "i-" + name,
		})
		s.owned = append(s.owned, policy.Owned{
			Ref: vmRef(name), Name: name, PowerState: vsphere.PoweredOff, InstanceUUID: "i-" + name,
			Record: &policy.Record{InstanceUUID: "i-" + name, Tag: "spot", Scope: clusterX, At: wentOff, CPUMHz: 1000, MemoryMB: 500},
			Off:    &policy.Trace{Time: wentOff, Event: "VmPoweredOffEvent", User: "us", Ours: true},
		})
	}
	return s
}

func (s *offCase) choose() policy.Returns {
	return policy.ChooseReturns(s.snap, s.owned, s.demand, s.policy)
}

func (s *offCase) vm(name string) *vsphere.VM {
	return &s.snap.VMs[slices.IndexFunc(s.snap.VMs, func(v vsphere.VM) bool { return v.Name == name })]
}

func (s *offCase) rec(name string) *policy.Owned {
	return &s.owned[slices.IndexFunc(s.owned, func(o policy.Owned) bool { return o.Name == name })]
}

func waves(r policy.Returns) string {
	var b strings.Builder
	for _, ret := range r.Returns {
		b.WriteString(ret.Name + string(rune('0'+ret.Wave)) + " ")
	}
	return strings.TrimSpace(b.String())
}

func TestWhyAVMStaysOff(t *testing.T) {
	after, before := wentOff.Add(time.Minute), wentOff.Add(-time.Minute)
	cases := map[string]struct {
		change func(s *offCase)
		want   policy.Reason // empty: it comes back
	}{
		"nothing happened to it": {func(*offCase) {}, ""},
		"its owner powered it on": {func(s *offCase) {
			s.rec("a").PowerState = vsphere.PoweredOn
			s.rec("a").Off = nil
			s.rec("a").Touched = &policy.Trace{Time: after, User: "bob"}
		}, policy.TouchedByOwner},
		"its owner reconfigured it": {func(s *offCase) {
			s.rec("a").Touched = &policy.Trace{Time: after, Event: "VmReconfiguredEvent", User: "bob"}
		}, policy.TouchedByOwner},
		"its owner reconfigured it before": {func(s *offCase) {
			s.rec("a").Touched = &policy.Trace{Time: before, Event: "VmReconfiguredEvent", User: "bob"}
		}, ""},
		"a touch in the same moment counts": {func(s *offCase) { s.rec("a").Touched = &policy.Trace{Time: wentOff, User: "bob"} }, policy.TouchedByOwner},
		"somebody else turned it off":       {func(s *offCase) { s.rec("a").Off.Ours, s.rec("a").Off.User = false, "bob" }, policy.TouchedByOwner},
		"its owner powered it on, and its guest went off after a later request of ours": {func(s *offCase) {
			s.rec("a").Off = &policy.Trace{Time: after, Event: "VmPoweredOffEvent", Ours: true, Asked: after.Add(-5 * time.Second), Before: wentOff}
			s.rec("a").Touched = &policy.Trace{Time: after.Add(-20 * time.Second), Event: "VmPoweredOnEvent", User: "bob"}
		}, policy.TouchedByOwner},
		"it went off again, and nobody knows who powered it on": {func(s *offCase) {
			s.rec("a").Off = &policy.Trace{Time: after, Event: "VmPoweredOffEvent", Ours: true, Asked: after.Add(-5 * time.Second), Before: wentOff}
		}, policy.NoEvidence},
		"it had gone off before, was preempted then, and vCenter's clock is a little ahead": {func(s *offCase) {
			s.rec("a").Off = &policy.Trace{Time: wentOff.Add(20 * time.Second), Event: "VmPoweredOffEvent", User: "us", Ours: true, Before: before}
		}, ""},
		"the power-off of our record is gone, and a later one shows": {func(s *offCase) {
			s.snap.Time = wentOff.Add(4 * time.Hour)
			s.rec("a").Off.Time = wentOff.Add(3 * time.Hour)
		}, policy.NoEvidence},
		"its guest went off long after our request, which had expired": {func(s *offCase) {
			s.snap.Time = wentOff.Add(2 * time.Hour)
			s.rec("a").Off = &policy.Trace{Time: wentOff.Add(90 * time.Minute), Event: "VmPoweredOffEvent", Ours: true, Asked: wentOff.Add(-time.Minute)}
		}, policy.NoEvidence},
		"its guest took longer than today's policy gives, and its round has waited for it": {func(s *offCase) {
			s.rec("a").Off = &policy.Trace{Time: wentOff, Event: "VmPoweredOffEvent", Ours: true, Asked: wentOff.Add(-3 * time.Hour)}
		}, ""},
		"its guest went off by itself":       {func(s *offCase) { s.rec("a").Off.Ours, s.rec("a").Off.User = false, "" }, policy.NoEvidence},
		"vCenter's events are gone":          {func(s *offCase) { s.rec("a").Off = nil }, policy.NoEvidence},
		"it is on, nobody knows why":         {func(s *offCase) { s.rec("a").Off = nil; s.rec("a").PowerState = vsphere.PoweredOn }, policy.AlreadyOn},
		"it was untagged":                    {func(s *offCase) { s.snap.VMs = nil }, policy.Untagged},
		"untagged and of another cluster":    {func(s *offCase) { s.snap.VMs = nil; s.rec("a").Record.Scope.Value = "domain-c9" }, policy.OutOfScope},
		"it is in another cluster now":       {func(s *offCase) { s.vm("a").Cluster.Value = "domain-c9" }, policy.OutOfScope},
		"everything is the scope":            {func(s *offCase) { s.vm("a").Cluster.Value = "domain-c9"; s.demand.Scope = vsphere.Ref{} }, ""},
		"its record cannot be read":          {func(s *offCase) { s.rec("a").Record = nil }, policy.AttributeChanged},
		"its record is of another tag":       {func(s *offCase) { s.rec("a").Record.Tag = "batch" }, policy.OtherTag},
		"its record was copied":              {func(s *offCase) { s.rec("a").InstanceUUID = "i-z" }, policy.OtherInstance},
		"its record names no instance":       {func(s *offCase) { s.rec("a").Record.InstanceUUID = "" }, policy.OtherInstance},
		"it became a template":               {func(s *offCase) { s.vm("a").Template = true }, policy.Template},
		"the policy names it in neverTouch":  {func(s *offCase) { s.policy.NeverTouch = []string{"a*"} }, policy.Infrastructure},
		"nobody looks for events so old":     {func(s *offCase) { s.rec("a").Off, s.policy.Restore.GiveUp = nil, clock.Duration(59*time.Minute) }, policy.TooOld},
		"it is off for longer than giveUp":   {func(s *offCase) { s.policy.Restore.GiveUp = clock.Duration(59 * time.Minute) }, policy.TooOld},
		"it is off for as long as giveUp":    {func(s *offCase) { s.policy.Restore.GiveUp = clock.Duration(time.Hour) }, ""},
		"it was preempted three times today": {func(s *offCase) { s.demand.Preempted = map[string]int{vmRef("a").String(): 3} }, policy.CyclesTooOften},
		"it was preempted twice today":       {func(s *offCase) { s.demand.Preempted = map[string]int{vmRef("a").String(): 2} }, ""},
		"another workflow holds it":          {func(s *offCase) { s.demand.Reserved = []vsphere.Ref{vmRef("a")} }, policy.BeingEvicted},
		"its host is away":                   {func(s *offCase) { s.vm("a").Connected = false }, policy.NotConnected},
		"an operation is under way":          {func(s *offCase) { s.vm("a").DisabledMethods = []string{"PowerOnVM_Task"} }, policy.PendingOperation},
		"a tag that protects it keeps it not off": {func(s *offCase) {
			s.vm("a").Tags = map[string][]string{policy.CategoryProtect: {policy.TagDoNotPreempt}}
		}, ""},
		"others were named":              {func(s *offCase) { s.demand.Only = []vsphere.Ref{vmRef("z")} }, "unnamed"},
		"no host can be measured":        {func(s *offCase) { s.policy.Target = policy.Goal{CPU: 80}; s.snap.Hosts = nil }, policy.NotMeasured},
		"no room for its CPU":            {func(s *offCase) { s.policy.Target = policy.Goal{CPU: 64, Margin: 5} }, policy.NoRoom},
		"just room for its CPU":          {func(s *offCase) { s.policy.Target = policy.Goal{CPU: 65, Margin: 5} }, ""},
		"no room for its memory":         {func(s *offCase) { s.policy.Target = policy.Goal{Memory: 24} }, policy.NoRoom},
		"a host is entering maintenance": {func(s *offCase) { s.policy.Target = policy.Goal{CPU: 90}; s.snap.Hosts[0].EnteringMaintenance = true }, policy.NoRoom},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := offSite("a")
			c.change(s)
			r := s.choose()
			var got policy.Reason
			switch {
			case len(r.Left) > 0 && r.Left[0].Ref == vmRef("a"):
				got = r.Left[0].Reason
			case len(r.Returns) == 0:
				got = "unnamed"
			}
			if got != c.want {
				t.Errorf("it stays as %q, want %q: %+v", got, c.want, r)
			}
			if got != "" && got != "unnamed" && got.Explain() == string(got) {
				t.Errorf("%s has no words", got)
			}
			if r.Later != got.Passes() {
				t.Errorf("later=%v for %q", r.Later, got)
			}
		})
	}
}

func TestTheMostImportantComeFirstThenThoseOffForLongest(t *testing.T) {
	s := offSite("a", "b", "c", "d", "e")
	s.vm("c").Tags = map[string][]string{policy.CategoryPriority: {"500"}}
	s.vm("d").Tags = map[string][]string{policy.CategoryPriority: {"5"}}
	s.rec("b").Off.Time = wentOff.Add(-time.Minute)
	if got := waves(s.choose()); got != "c1 b1 a2 e2 d3" {
		t.Errorf("they come back as %s", got)
	}
}

func TestNobodyOfLowerPriorityOvertakesOneThatWaitsForRoom(t *testing.T) {
	s := offSite("big", "small", "equal")
	s.policy.Target = policy.Goal{CPU: 80}
	s.rec("big").Record.CPUMHz = 4000
	for _, name := range []string{"big", "equal"} {
		s.vm(name).Tags = map[string][]string{policy.CategoryPriority: {"500"}}
	}
	r := s.choose()
	if waves(r) != "equal1" || len(r.Left) != 2 || !r.Later || r.Left[0].Reason != policy.NoRoom || r.Left[1].Reason != policy.NoRoom {
		t.Errorf("unexpected plan %+v", r)
	}
}

func TestTheProjectedLoadStaysUnderTheTargetLessItsMargin(t *testing.T) {
	s := offSite("a", "b", "c", "d", "e", "f", "g")
	s.policy.Target = policy.Goal{CPU: 85, Margin: 5}
	r := s.choose()
	if len(r.Returns) != 3 || r.Usage[0].CPU.Used != 5000 || r.Usage[0].CPU.After != 8000 || r.Usage[0].CPU.Target != 80 {
		t.Errorf("unexpected plan %+v", r)
	}
}

func TestWhatCameBackAMomentAgoIsReckonedWith(t *testing.T) {
	s := offSite("a", "b")
	s.policy.Target = policy.Goal{CPU: 70}
	s.vm("a").PowerState, s.vm("a").CPUMHz = vsphere.PoweredOn, 300
	s.owned = s.owned[1:]
	s.rec("b").Record.CPUMHz = 1400
	s.demand.Warming = []policy.Return{{Ref: vmRef("a"), CPUMHz: 1000}}
	if r := s.choose(); len(r.Returns) != 0 {
		t.Errorf("700 MHz that are yet to come were not reckoned with: %+v", r)
	}
	s.vm("a").CPUMHz = 900
	if r := s.choose(); len(r.Returns) != 1 {
		t.Errorf("there was room for it: %+v", r)
	}
}

func TestOneThatIsOnByOurOwnHandIsRecordedAndNotLeft(t *testing.T) {
	s := offSite("a")
	s.rec("a").PowerState, s.rec("a").Off = vsphere.PoweredOn, nil
	s.rec("a").Back = &policy.Trace{Time: wentOff.Add(time.Minute), Event: "VmPoweredOnEvent", User: "us", Ours: true}
	if r := s.choose(); len(r.Adopt) != 1 || len(r.Left)+len(r.Returns) != 0 {
		t.Errorf("unexpected plan %+v", r)
	}
}

func TestANamedVMWithoutOurRecordIsNotOursOrIsOnAlready(t *testing.T) {
	s := offSite("a", "b")
	on := *s.vm("a")
	on.Ref, on.Name, on.PowerState = vmRef("y"), "y", vsphere.PoweredOn
	s.snap.VMs = append(s.snap.VMs, on)
	s.demand.Only = []vsphere.Ref{vmRef("b"), vmRef("z"), vmRef("y")}
	r := s.choose()
	if waves(r) != "b1" || len(r.Left) != 2 || r.Left[1].Reason != policy.NotOurs || r.Left[0].Reason != policy.AlreadyOn || r.Left[0].Name != "y" {
		t.Errorf("unexpected plan %+v", r)
	}
}

func TestTheOrderOfTheInventoryChangesNoReturn(t *testing.T) {
	s := offSite("a", "b", "c", "d", "e", "f")
	s.policy.Target = policy.Goal{CPU: 80, Memory: 90}
	s.vm("c").Tags = map[string][]string{policy.CategoryPriority: {"500"}}
	s.rec("e").Off = nil
	want := s.choose()
	for range 50 {
		rand.Shuffle(len(s.owned), func(i, j int) { s.owned[i], s.owned[j] = s.owned[j], s.owned[i] })
		rand.Shuffle(len(s.snap.VMs), func(i, j int) { s.snap.VMs[i], s.snap.VMs[j] = s.snap.VMs[j], s.snap.VMs[i] })
		if got := s.choose(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nis not\n%+v", got, want)
		}
	}
}
