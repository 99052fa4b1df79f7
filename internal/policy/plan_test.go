package policy_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var (
	clusterA = vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c1"}
	clusterB = vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c2"}
	now      = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
)

// vm is a candidate that may go; changes make it one that may not.
func vm(n int, changes ...func(*vsphere.VM)) vsphere.VM {
	v := vsphere.VM{
		Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d", n)}, Name: fmt.Sprintf("batch-%d", n),
		PowerState: vsphere.PoweredOn, Tagged: true, Connected: true, ToolsRunning: true, Cluster: clusterA,
		Ancestors: []vsphere.Ref{clusterA}, BootTime: now.Add(-time.Hour), BIOSUUID: fmt.Sprintf("uuid-%d", n),
	}
	for _, c := range changes {
		c(&v)
	}
	return v
}

func TestVMsElsewhereAreOutOfScope(t *testing.T) {
	s := vsphere.Snapshot{Time: now, VMs: []vsphere.VM{vm(1)}, Elsewhere: []vsphere.Ref{vm(9).Ref}}
	plan := policy.Choose(s, policy.Demand{Tag: "preemptible", Scope: clusterA}, policy.Default())
	if len(plan.Targets) != 1 || len(plan.Spared) != 1 || plan.Spared[0].Ref != vm(9).Ref || plan.Spared[0].Reason != policy.OutOfScope {
		t.Errorf("%+v", plan)
	}
}

func names(p policy.Plan) []string {
	out := []string{}
	for _, t := range p.Targets {
		out = append(out, t.Name)
	}
	return out
}

func TestChoose(t *testing.T) {
	many := func(n int, changes ...func(*vsphere.VM)) (vms []vsphere.VM) {
		for i := 1; i <= n; i++ {
			vms = append(vms, vm(i, changes...))
		}
		return vms
	}
	off := func(v *vsphere.VM) { v.PowerState = vsphere.PoweredOff }
	cases := map[string]struct {
		vms    []vsphere.VM
		others []vsphere.Ref
		demand policy.Demand
		policy func(*policy.Policy)
		want   []string
		spared map[string]policy.Reason // by MoRef
	}{
		"everything tagged goes when nothing names a scope": {
			vms:  []vsphere.VM{vm(1), vm(2, func(v *vsphere.VM) { v.Cluster, v.Ancestors = clusterB, []vsphere.Ref{clusterB} })},
			want: []string{"batch-1", "batch-2"},
		},
		"a VM of another cluster stays": {
			vms:    []vsphere.VM{vm(1), vm(2, func(v *vsphere.VM) { v.Cluster, v.Ancestors = clusterB, []vsphere.Ref{clusterB} })},
			demand: policy.Demand{Scope: clusterA},
			want:   []string{"batch-1"}, spared: map[string]policy.Reason{"vm-2": policy.OutOfScope},
		},
		"ten VMs that are off do not take the places of two that are on": {
			vms:  append(many(10, off), vm(11), vm(12)),
			want: []string{"batch-11", "batch-12"}, spared: map[string]policy.Reason{"vm-1": policy.NotPoweredOn},
		},
		"at most maxVMs go, and the others are told why": {
			vms: many(12), want: []string{"batch-1", "batch-2", "batch-3", "batch-4", "batch-5", "batch-6", "batch-7", "batch-8", "batch-9", "batch-10"},
			spared: map[string]policy.Reason{"vm-11": policy.OverLimit, "vm-12": policy.OverLimit},
		},
		"what an earlier plan of the round has committed counts against maxVMs": {
			vms: many(12), demand: policy.Demand{Already: 9}, want: []string{"batch-1"},
		},
		"a suspended VM, a template and a VM of a host that is away stay": {
			vms: []vsphere.VM{
				vm(1, func(v *vsphere.VM) { v.PowerState = vsphere.Suspended }), vm(2, func(v *vsphere.VM) { v.Template = true }),
				vm(3, func(v *vsphere.VM) { v.Connected = false }),
			},
			want: []string{}, spared: map[string]policy.Reason{"vm-1": policy.NotPoweredOn, "vm-2": policy.Template, "vm-3": policy.NotConnected},
		},
		"vCLS, vCenter's own VM, ours and what neverTouch names stay": {
			vms: []vsphere.VM{
				vm(1, func(v *vsphere.VM) { v.ManagedBy = "com.vmware.vim.eam" }), vm(2, func(v *vsphere.VM) { v.Name = "vCLS-7" }),
				vm(3, func(v *vsphere.VM) { v.GuestAddrs = []string{"10.0.0.5"} }), vm(4), vm(5, func(v *vsphere.VM) { v.Name = "db-main" }),
			},
			demand: policy.Demand{Self: []string{"UUID-4"}}, policy: func(p *policy.Policy) { p.NeverTouch = []string{"db-*"} },
			want: []string{}, spared: map[string]policy.Reason{
				"vm-1": policy.Infrastructure, "vm-2": policy.Infrastructure, "vm-3": policy.Infrastructure, "vm-4": policy.Infrastructure, "vm-5": policy.Infrastructure,
			},
		},
		"a VM under an operation, and one that another round evicts, stay": {
			vms:    []vsphere.VM{vm(1, func(v *vsphere.VM) { v.DisabledMethods = []string{"PowerOffVM_Task"} }), vm(2)},
			demand: policy.Demand{Reserved: []vsphere.Ref{{Type: vsphere.TypeVM, Value: "vm-2"}}},
			want:   []string{}, spared: map[string]policy.Reason{"vm-1": policy.PendingOperation, "vm-2": policy.BeingEvicted},
		},
		"a tagged host and a tag that outlived its VM are named as such": {
			vms: []vsphere.VM{vm(1)}, others: []vsphere.Ref{{Type: vsphere.TypeHost, Value: "host-1"}, {Type: vsphere.TypeVM, Value: "vm-9"}},
			want: []string{"batch-1"}, spared: map[string]policy.Reason{"host-1": policy.NotAVM, "vm-9": policy.Gone},
		},
		"the youngest goes first, then the smaller MoRef": {
			vms:  []vsphere.VM{vm(10), vm(9), vm(3, func(v *vsphere.VM) { v.BootTime = now })},
			want: []string{"batch-3", "batch-9", "batch-10"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := policy.Default()
			if tc.policy != nil {
				tc.policy(&p)
			}
			snap := vsphere.Snapshot{VMs: tc.vms, Others: tc.others, VCenterAddrs: []string{"10.0.0.5"}}
			plan := policy.Choose(snap, tc.demand, p)
			if got := names(plan); !slices.Equal(got, tc.want) {
				t.Errorf("targets %v, want %v", got, tc.want)
			}
			got := map[string]policy.Reason{}
			for _, s := range plan.Spared {
				got[s.Ref.Value] = s.Reason
			}
			for ref, want := range tc.spared {
				if got[ref] != want {
					t.Errorf("%s is spared for %q, want %q", ref, got[ref], want)
				}
			}
		})
	}
}

// randomVM draws a candidate in any state.
func randomVM(t *rapid.T, n int) vsphere.VM {
	return vm(n, func(v *vsphere.VM) {
		v.PowerState = rapid.SampledFrom([]string{vsphere.PoweredOn, vsphere.PoweredOn, vsphere.PoweredOff, vsphere.Suspended}).Draw(t, "power")
		v.Template = rapid.IntRange(0, 9).Draw(t, "template") == 0
		v.Connected = rapid.IntRange(0, 9).Draw(t, "connected") > 0
		v.Tagged = rapid.IntRange(0, 9).Draw(t, "tagged") > 0
		v.BootTime = now.Add(-time.Duration(rapid.IntRange(0, 3).Draw(t, "boot")) * time.Hour)
		if rapid.Bool().Draw(t, "other") {
			v.Cluster, v.Ancestors = clusterB, []vsphere.Ref{clusterB}
		}
	})
}

func TestChooseHoldsForAnyInventory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "n")
		snap := vsphere.Snapshot{}
		for i := range n {
			snap.VMs = append(snap.VMs, randomVM(t, i))
		}
		p := policy.Default()
		p.MaxVMs = rapid.IntRange(1, 15).Draw(t, "max")
		demand := policy.Demand{Scope: rapid.SampledFrom([]vsphere.Ref{{}, clusterA, clusterB}).Draw(t, "scope")}
		plan := policy.Choose(snap, demand, p)

		if len(plan.Targets)+len(plan.Spared) != n {
			t.Fatalf("%d chosen + %d spared != %d candidates", len(plan.Targets), len(plan.Spared), n)
		}
		if len(plan.Targets) > p.MaxVMs {
			t.Fatalf("%d chosen, at most %d allowed", len(plan.Targets), p.MaxVMs)
		}
		byRef := map[vsphere.Ref]vsphere.VM{}
		for _, v := range snap.VMs {
			byRef[v.Ref] = v
		}
		for _, target := range plan.Targets {
			v := byRef[target.Ref]
			if v.PowerState != vsphere.PoweredOn || v.Template || !v.Tagged || !v.Connected {
				t.Fatalf("chose %+v", v)
			}
			if !demand.Scope.Zero() && v.Cluster != demand.Scope {
				t.Fatalf("chose %s of %s, asked for %s", v.Name, v.Cluster, demand.Scope)
			}
		}
		shuffled := vsphere.Snapshot{VMs: rapid.Permutation(snap.VMs).Draw(t, "order")}
		if again := policy.Choose(shuffled, demand, p); !slices.Equal(names(again), names(plan)) {
			t.Fatalf("the order of the input matters: %v, %v", names(plan), names(again))
		}
	})
}

func TestRecheckTellsWhyATargetMayNoLongerGo(t *testing.T) {
	cases := map[string]struct {
		vm   vsphere.VM
		want policy.Reason
	}{
		"it may":                      {vm(1), ""},
		"it no longer exists":         {vsphere.VM{}, policy.Gone},
		"its tag was taken off":       {vm(1, func(v *vsphere.VM) { v.Tagged = false }), policy.NotTagged},
		"it became a template":        {vm(1, func(v *vsphere.VM) { v.Template = true }), policy.Template},
		"it moved to another cluster": {vm(1, func(v *vsphere.VM) { v.Cluster, v.Ancestors = clusterB, nil }), policy.OutOfScope},
		"its host went away":          {vm(1, func(v *vsphere.VM) { v.Connected = false }), policy.NotConnected},
		"an operation began":          {vm(1, func(v *vsphere.VM) { v.DisabledMethods = []string{"PowerOffVM_Task"} }), policy.PendingOperation},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := policy.Recheck(tc.vm, clusterA); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestEveryReasonHasWords(t *testing.T) {
	for _, r := range []policy.Reason{
		policy.NotAVM, policy.NotTagged, policy.Gone, policy.Template, policy.NotPoweredOn, policy.OutOfScope,
		policy.Infrastructure, policy.PendingOperation, policy.NotConnected, policy.BeingEvicted, policy.OverLimit,
	} {
		if r.Explain() == string(r) {
			t.Errorf("%s has no words", r)
		}
	}
}

func BenchmarkChoose10000(b *testing.B) {
	snap := vsphere.Snapshot{}
	for i := range 10_000 {
		snap.VMs = append(snap.VMs, vm(i))
	}
	for b.Loop() {
		policy.Choose(snap, policy.Demand{Scope: clusterA}, policy.Default())
	}
}
