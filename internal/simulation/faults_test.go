package simulation_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func now(t testing.TB, c *vim25.Client) error {
	_, err := methods.GetCurrentTime(t.Context(), c)
	return err
}

func alive(t testing.TB, c *vim25.Client) bool {
	t.Helper()
	s, err := session.NewManager(c).UserSession(t.Context())
	must(t, err)
	return s != nil
}

func TestACallCanBeMadeToFail(t *testing.T) {
	v := start(t, small())
	c, ref, other := login(t, v), v.VM("cluster-a-batch-01"), v.VM("cluster-a-batch-02")
	v.FailCall("PowerOffVM_Task", &ref, &types.TaskInProgress{}, 2)
	must(t, powerOff(t, c, other))
	for range 2 {
		if err := powerOff(t, c, ref); !isFault[*types.TaskInProgress](err) {
			t.Errorf("power-off: %v", err)
		}
	}
	must(t, powerOff(t, c, ref))

	v.FailCall("CurrentTime", nil, &types.RuntimeFault{}, -1)
	for range 3 {
		if now(t, c) == nil {
			t.Error("the call succeeds")
		}
	}
	v.FailCall("CurrentTime", nil, nil, 0)
	must(t, now(t, c))
	v.FailCall("CurrentTime", nil, &types.RuntimeFault{}, -1)
	v.ClearRules()
	must(t, now(t, c))
}

func TestWritingAnAttributeCanBeMadeToFailForOneVM(t *testing.T) {
	v := start(t, small())
	c, ref, other := login(t, v), v.VM("cluster-a-batch-01"), v.VM("cluster-a-batch-02")
	fields, err := object.GetCustomFieldsManager(c)
	must(t, err)
	def, err := fields.Add(t.Context(), "colour", "VirtualMachine", nil, nil)
	must(t, err)
	v.FailCall("SetField", &ref, &types.NoPermission{}, 1)
	if err := fields.Set(t.Context(), ref, def.Key, "blue"); !isFault[*types.NoPermission](err) {
		t.Errorf("writing: %v", err)
	}
	must(t, fields.Set(t.Context(), other, def.Key, "green"))
	v.ResetCalls()
	if _, ok := v.Attribute(ref, "colour"); ok {
		t.Error("the VM has the attribute")
	}
	if value, ok := v.Attribute(other, "colour"); !ok || value != "green" {
		t.Errorf("the other VM's is %q, %v", value, ok)
	}
	if v.TotalCalls() != 0 {
		t.Errorf("looking counted as %v", v.Calls())
	}
}

func TestARESTCallCanBeMadeToFail(t *testing.T) {
	v := start(t, small())
	m := tags.NewManager(loginREST(t, v, login(t, v)))
	v.FailREST("REST GET /com/vmware/cis/tagging/tag", http.StatusInternalServerError, 1)
	if _, err := m.ListTags(t.Context()); err == nil {
		t.Error("the call succeeds")
	}
	_, err := m.ListTags(t.Context())
	must(t, err)
}

func TestAHookRunsBeforeTheCallAndMayRemoveTheVM(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	fields, err := object.GetCustomFieldsManager(c)
	must(t, err)
	def, err := fields.Add(t.Context(), "colour", "VirtualMachine", nil, nil)
	must(t, err)
	var seen []types.ManagedObjectReference
	v.Hook("PowerOffVM_Task", func(r types.ManagedObjectReference) {
		seen = append(seen, r)
		if err := v.RemoveVM(r); err != nil {
			t.Error(err)
		}
	})
	if err := powerOff(t, c, ref); !isFault[*types.ManagedObjectNotFound](err) {
		t.Errorf("power-off of the removed VM: %v", err)
	}
	if err := fields.Set(t.Context(), ref, def.Key, "blue"); !isFault[*types.ManagedObjectNotFound](err) {
		t.Errorf("annotating the removed VM: %v", err)
	}
	if len(seen) != 1 || seen[0] != ref {
		t.Errorf("the hook saw %v", seen)
	}
	if v.VM("cluster-a-batch-01") != (types.ManagedObjectReference{}) || v.PowerState(ref) != "" || len(v.TaggedVMs("cluster-a")) != 1 {
		t.Error("the VM is still there")
	}
	if v.RemoveVM(ref) == nil {
		t.Error("removing it again succeeds")
	}
}

func TestCallsAreCountedExactly(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	m := tags.NewManager(loginREST(t, v, c))
	v.ResetCalls()
	_, err := object.NewVirtualMachine(c, ref).PowerOff(t.Context())
	must(t, err)
	for range 3 {
		must(t, now(t, c))
	}
	id, err := m.GetTagForCategory(t.Context(), "preemptible", "preemption")
	must(t, err)
	_, err = m.ListAttachedObjects(t.Context(), id.ID)
	must(t, err)
	calls := v.Calls()
	for key, want := range map[string]int{
		"PowerOffVM_Task": 1, "CurrentTime": 3, "REST GET /com/vmware/cis/tagging/tag/{id}": 1,
		"REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=list-attached-objects": 1,
	} {
		if calls[key] != want {
			t.Errorf("%s: %d calls, not %d; all: %v", key, calls[key], want, calls)
		}
	}
	v.ResetCalls()
	if v.TotalCalls() != 0 {
		t.Errorf("after the reset: %v", v.Calls())
	}
}

func TestLatencyAddsToEachCallSideBySide(t *testing.T) {
	o := small()
	o.Latency = 5 * time.Millisecond
	v := start(t, o)
	c := login(t, v)
	v.SetLatency(500 * time.Millisecond)
	v.ResetCalls()
	began := time.Now()
	var failed atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if now(t, c) != nil {
				failed.Add(1)
			}
		})
	}
	group.Wait()
	if took := time.Since(began); took < 500*time.Millisecond || took > 3*time.Second {
		t.Errorf("8 calls at once took %v", took)
	}
	if failed.Load() != 0 || v.MaxConcurrent() < 2 || v.MaxConcurrent() > 8 {
		t.Errorf("%d failed, at most %d at once", failed.Load(), v.MaxConcurrent())
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	v := start(t, simulation.Options{Clusters: 1, HostsPerCluster: 3, VMsPerCluster: 20, Tagged: 20})
	c := login(t, v)
	var group sync.WaitGroup
	for i, vm := range v.VMs() {
		group.Go(func() {
			o := object.NewVirtualMachine(c, vm.Ref)
			if i%2 == 0 {
				_ = o.ShutdownGuest(t.Context())
			} else if task, err := o.PowerOff(t.Context()); err == nil {
				_ = task.Wait(t.Context())
			}
			var got mo.VirtualMachine
			_ = property.DefaultCollector(c).RetrieveOne(t.Context(), vm.Ref, []string{"runtime", "summary", "config", "guest"}, &got)
			_, _ = v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "VM CPU Usage", Entity: vm.Ref, From: "green", To: "red"})
			_ = v.SetClusterUsage("cluster-a", float64(40+i), 50)
		})
	}
	group.Wait()
	eventually(t, "all are off", func() bool {
		for _, vm := range v.VMs() {
			if v.PowerState(vm.Ref) != off {
				return false
			}
		}
		return true
	})
}

func TestTheInventoryCanBeReadWhileItChanges(t *testing.T) {
	v := start(t, simulation.Options{Clusters: 1, HostsPerCluster: 3, VMsPerCluster: 12})
	c := login(t, v)
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			vm := v.VMs()[i%12].Ref
			_ = v.PowerOffAs(vm, "bob")
			_ = v.SetClusterUsage("cluster-a", float64(30+i%60), 50)
			_ = v.PowerOnAs(vm, "bob")
		}
	})
	list, err := view.NewManager(c).CreateContainerView(t.Context(), c.ServiceContent.RootFolder, nil, true)
	must(t, err)
	for range 3 {
		var vms []mo.VirtualMachine
		must(t, list.Retrieve(t.Context(), []string{"VirtualMachine"}, []string{"runtime", "summary", "guest", "config", "recentTask"}, &vms))
		var hosts []mo.HostSystem
		must(t, list.Retrieve(t.Context(), []string{"HostSystem"}, []string{"summary", "runtime"}, &hosts))
		if len(vms) != 12 || len(hosts) != 3 {
			t.Fatalf("%d VMs, %d hosts", len(vms), len(hosts))
		}
	}
	close(stop)
	group.Wait()
}

func TestACertificateThatIsNotTrustedIsRefusedByTheClient(t *testing.T) {
	v := start(t, small())
	other := start(t, small())
	c := connect(t, v)
	u := c.URL()
	s := soap.NewClient(u, false)
	s.SetThumbprint(u.Host, other.Thumbprint())
	if _, err := vim25.NewClient(t.Context(), s); err == nil {
		t.Error("the wrong thumbprint is accepted")
	}
	s = soap.NewClient(u, false)
	s.SetThumbprint(u.Host, v.Thumbprint())
	_, err := vim25.NewClient(t.Context(), s)
	must(t, err)
}
