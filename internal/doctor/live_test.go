package doctor

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestWhatOnlyALiveVCenterCanAnswerIsAsked(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	p.want(p.diagnose(), powerOffs, doctorapi.OK, "no power-off of the last day")
	for _, vm := range p.vc.VMs()[:2] {
		if _, err := p.VCenter.PowerOff(t.Context(), vsphere.Ref{Type: vm.Ref.Type, Value: vm.Ref.Value}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both VMs are off", func() bool {
		return p.vc.PowerState(p.vc.VMs()[0].Ref) == types.VirtualMachinePowerStatePoweredOff && p.vc.PowerState(p.vc.VMs()[1].Ref) == types.VirtualMachinePowerStatePoweredOff
	})
	r := p.diagnose()
	p.want(r, apiVersion, doctorapi.OK, "the session speaks ", "vCenter's own is ")
	p.want(r, "cluster "+p.vc.Cluster("cluster-a").Ref.Value, doctorapi.OK, "DRS ", "DPM ", "HA ")
	p.want(r, several, doctorapi.OK, "a filter on 4 objects is taken")
	p.want(r, powerOffs, doctorapi.OK, "of the last 2 power-offs the events are stamped ")
	p.want(r, valueLength, doctorapi.OK, "on 4 tagged VMs has 0 characters", "--attribute-on")
}

func TestWhatVCenterRefusesToTellIsAWarningAndNoEnd(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	denied := &types.NoPermission{PrivilegeId: "System.Read"}
	p.vc.FailCall("CreateCollectorForEvents", nil, denied, -1)
	p.vc.FailCall("CreateFilter", nil, &types.InvalidArgument{InvalidProperty: "spec.objectSet"}, -1)
	r := p.diagnose()
	p.want(r, powerOffs, doctorapi.Warning, "it could not be found out")
	p.want(r, several, doctorapi.Failed, "a filter on 4 objects is refused, which plans and waits need")
	p.want(r, valueLength, doctorapi.OK)
}

func TestHowLongAValueMayBeIsTriedOnAVMThatIsNamed(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	vm := p.vc.VMs()[0]
	p.want(p.diagnoseWith(doctorapi.Input{AttributeVM: vm.Name}), valueLength, doctorapi.OK, "65535 characters are accepted, more were not tried")
	p.vc.SetValueLimit(4096)
	r := p.diagnoseWith(doctorapi.Input{AttributeVM: vm.Ref.Value})
	p.want(r, valueLength, doctorapi.OK, "4096 characters are accepted, 8000 are not")
	if value, _ := p.vc.Attribute(vm.Ref, preemption.AttributeKey); value != "" {
		t.Errorf("%d characters were left behind", len(value))
	}
	p.want(p.diagnoseWith(doctorapi.Input{AttributeVM: "nosuch"}), valueLength, doctorapi.Failed, "no such VM")

	ref := vsphere.Ref{Type: vm.Ref.Type, Value: vm.Ref.Value}
	if err := p.VCenter.Annotate(t.Context(), ref, preemption.AttributeKey, probeValue(300)); err != nil { // a worker died in its trial
		t.Fatal(err)
	}
	p.want(p.diagnoseWith(doctorapi.Input{AttributeVM: vm.Name}), valueLength, doctorapi.OK, "4096 characters are accepted")
	if value, _ := p.vc.Attribute(vm.Ref, preemption.AttributeKey); value != "" {
		t.Errorf("%d characters were left behind", len(value))
	}

	const record = `{"preempted":true}`
	if err := p.VCenter.Annotate(t.Context(), ref, preemption.AttributeKey, record); err != nil {
		t.Fatal(err)
	}
	p.want(p.diagnoseWith(doctorapi.Input{AttributeVM: vm.Name}), valueLength, doctorapi.Failed, "carries the attribute already")
	if value, _ := p.vc.Attribute(vm.Ref, preemption.AttributeKey); value != record {
		t.Errorf("the record of a preemption is now %q", value)
	}
}

func TestAValueThatIsTriedOverwritesNoRecordThatCameMeanwhile(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	vm := p.vc.VMs()[0]
	ref := vsphere.Ref{Type: vm.Ref.Type, Value: vm.Ref.Value}
	const record = `{"preempted":true}`
	tried := 0
	got, err := p.VCenter.TryValues(t.Context(), ref, preemption.AttributeKey, []int{200, 300}, func(n int) string {
		if tried++; tried == 2 {
			p.vc.SetValueLimit(250)
			var begun atomic.Bool
			p.vc.Hook("SetField", func(types.ManagedObjectReference) {
				if begun.Swap(true) {
					return // the record itself
				}
				if err := p.VCenter.Annotate(t.Context(), ref, preemption.AttributeKey, record); err != nil {
					t.Error(err)
				}
			})
		}
		return probeValue(n)
	})
	if err != nil || got.Accepted != 200 || got.Refused != 300 {
		t.Errorf("%+v, %v", got, err)
	}
	if value, _ := p.vc.Attribute(vm.Ref, preemption.AttributeKey); value != record {
		t.Errorf("the record is now %q", value)
	}
}

func TestAValueThatIsTriedHasItsLengthAndSaysNothingOfAPreemption(t *testing.T) {
	for _, n := range triedLengths {
		value := probeValue(n)
		if len(value) != n || !strings.HasPrefix(value, `{"preempted":false,`) {
			t.Errorf("%d characters for %d: %.40s", len(value), n, value)
		}
	}
}

// A cluster whose DRS only recommends is a warning where something is restored.
func TestDRSThatWaitsForAPersonIsWarnedOfWhereVMsAreRestored(t *testing.T) {
	p := newPatient(t, simulation.Options{})
	cluster := p.vc.Cluster("cluster-a").Ref
	drs := types.ClusterDrsConfigInfo{Enabled: types.NewBool(true), DefaultVmBehavior: types.DrsBehaviorManual}
	dpm := &types.ClusterDpmConfigInfo{Enabled: types.NewBool(true), DefaultDpmBehavior: types.DpmBehaviorAutomated}
	if err := p.vc.SetClusterModes(cluster, drs, dpm); err != nil {
		t.Fatal(err)
	}
	p.want(p.diagnose(), "cluster "+cluster.Value, doctorapi.OK, "DRS manual, DPM automated, HA ")
	restore := policy.Default()
	restore.Restore.Enabled = true
	p.Policies["default"] = restore
	p.want(p.diagnose(), "cluster "+cluster.Value, doctorapi.Warning, "may wait for a person")
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// vCenter goes away at any of its calls: the examination ends all the same, and says at each check that it could not look.
func TestAVCenterThatGoesAwayInTheMiddleEndsInWarnings(t *testing.T) {
	for _, method := range []string{"HasUserPrivilegeOnEntities", "CreateFilter", "CreateCollectorForEvents", "ReadNextEvents", "CreateCollectorForTasks", "ReadNextTasks", "SetField"} {
		for name, cut := range map[string]func(*simulation.VCenter){
			"outage": (*simulation.VCenter).Outage, "connections": (*simulation.VCenter).DropConnections,
		} {
			t.Run(method+" "+name, func(t *testing.T) {
				t.Parallel()
				p := newPatient(t, simulation.Options{})
				vm := p.vc.VMs()[0]
				if err := p.vc.PowerOffAs(vm.Ref, "somebody@else"); err != nil {
					t.Fatal(err)
				}
				p.vc.Hook(method, func(types.ManagedObjectReference) { cut(p.vc) })
				r := p.diagnoseWith(doctorapi.Input{AttributeVM: vm.Name})
				bad := 0
				for _, c := range r.Checks {
					if c.State == doctorapi.Warning || c.State == doctorapi.Failed {
						bad++
					}
				}
				if bad == 0 {
					t.Errorf("nothing is wrong: %+v", r.Checks)
				}
				p.want(r, "policies", doctorapi.OK)
			})
		}
	}
}
