package chaos

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// remedies are rules beside that of the usual configuration.
const remedies = `
  - resize: {resource: cpu, mode: tag, cooldown: 1s, max: 64, replyTo: %[1]q}
  - reconfigure: {replyTo: %[1]q}
  - move: {targetUsage: 75, cooldown: 1s, replyTo: %[1]q}
`

// TestRemediationsAndSchedulesSurviveKilledWorkers kills a worker, or both, while VMs are resized, reconfigured and moved,
// and while a schedule preempts and a person restores. Each change is made, once.
func TestRemediationsAndSchedulesSurviveKilledWorkers(t *testing.T) {
	t.Parallel()
	limits := "\nlimits:\n  remediationsPerHour: 0\n"
	w := newWorld(t, seeded(t), site{temporal: startSQLite, config: limits + config[len("\nlimits:\n"):] + remedies})
	w.vc.SetRelocateTime(2 * time.Second)
	w.eventually("a worker makes the tags", func() error { return w.tryCtl("tags", "create") })
	w.eventually("the watch reads events", func() error { // it promises nothing of those before
		if w.vc.Calls()["CreateCollectorForEvents"] == 0 {
			return errors.New("it has no collector")
		}
		return nil
	})
	time.Sleep(2 * time.Second) // until Temporal knows where it stands
	w.ctl("schedule", "create", "nightly", "--every", "24h", "-c", "high", "--reply-to", w.sink.URL, "--paused")
	began, changes, off := time.Now().Add(-time.Second), 0, 0
	for i := range sized(1, 20) {
		changes += w.remedied(i)
		off += w.scheduled()
	}
	w.noneFailed(began)
	fmt.Fprintf(t.Output(), "%d changes of VMs, %d VMs off by a schedule and on again, a worker killed in each: **all made, each once**\n", changes, off)
}

// remedied gives cause for a change of a VM of each cluster in each way, kills workers meanwhile, and waits until all are
// made. It returns how many there were.
func (w *world) remedied(i int) (n int) {
	w.t.Helper()
	type wanted struct {
		what string
		made func() bool
	}
	var all []wanted
	moves := w.vc.Moves()
	memory := 8192 + 1024*(i+1)
	for _, c := range w.clusters() {
		resized, reconfigured, moved := w.vc.VM(c.Name+"-app-01"), w.vc.VM(c.Name+"-app-02"), w.vc.VM(c.Name+"-app-03")
		cpus := w.vc.HardwareOf(resized).CPUs + 1 + i
		_, err := w.vc.PostAlarm(w.t.Context(), simulation.AlarmChange{Name: "Virtual machine CPU usage", Entity: resized, From: "yellow", To: "red"})
		w.must(err)
		all = append(all, wanted{c.Name + ": the CPUs that a VM is to get", func() bool {
			tags := w.vc.TagsOf(resized)[placement.CategoryCPUs]
			if len(tags) != 1 {
				return false
			}
			n, err := strconv.Atoi(tags[0])
			return err == nil && n >= cpus
		}})
		w.must(w.vc.SetTags(reconfigured, placement.CategoryMemory, strconv.Itoa(memory)))
		w.must(w.vc.PowerOffAs(reconfigured, "CORP\\owner"))
		all = append(all, wanted{c.Name + ": the memory of a VM that is off", func() bool { return w.vc.HardwareOf(reconfigured).MemoryMB == memory }})
		full, err := w.vc.AddDatastore(c.Name, simulation.DatastoreOptions{Name: fmt.Sprint(c.Name, "-full-", i), CapacityGB: 1000, UsedGB: 700})
		w.must(err)
		_, err = w.vc.AddDisk(moved, simulation.DiskOptions{CapacityGB: 200, UsedGB: 200, Datastore: full})
		w.must(err)
		_, err = w.vc.AddDatastore(c.Name, simulation.DatastoreOptions{Name: fmt.Sprint(c.Name, "-empty-", i), CapacityGB: 4000})
		w.must(err)
		_, err = w.vc.PostAlarm(w.t.Context(), simulation.AlarmChange{Name: "Datastore usage on disk", Entity: full, From: "yellow", To: "red"})
		w.must(err)
		all = append(all, wanted{c.Name + ": a disk on a full datastore", func() bool { return !w.on(moved, full) }})
	}
	time.Sleep(w.within(4 * time.Second))
	attacks[3*w.random.IntN(2)].do(w) // one worker, or both
	w.eventually("all changes are made", func() (err error) {
		for _, c := range all {
			if !c.made() {
				err = errors.Join(err, errors.New(c.what))
			}
		}
		return err
	})
	if n := w.vc.Moves() - moves; n != len(w.clusters()) {
		w.t.Errorf("%d moves for %d disks", n, len(w.clusters()))
	}
	for _, c := range w.clusters() {
		w.must(w.vc.PowerOnAs(w.vc.VM(c.Name+"-app-02"), "CORP\\owner"))
	}
	return len(all)
}

func (w *world) on(vm, datastore types.ManagedObjectReference) bool {
	for _, d := range w.vc.StoredOn(vm) {
		if d == datastore {
			return true
		}
	}
	return false
}

// scheduled lets the schedule run, and a person restore, and kills workers in both. It returns how many VMs were off.
func (w *world) scheduled() (off int) {
	w.t.Helper()
	before, began := w.attributes(), time.Now().Add(-time.Second)
	w.ctl("schedule", "run", "nightly")
	time.Sleep(w.within(2 * time.Second))
	attacks[3*w.random.IntN(2)].do(w)
	w.eventually("the schedule's round is over", func() error {
		all, err := w.rounds(began)
		if err == nil && len(all) == 0 {
			err = errors.New("there is none")
		}
		if err != nil {
			return err
		}
		var violations []string
		violations, off = w.judge(before, all)
		for _, v := range violations {
			w.t.Errorf("by schedule: %s", v)
		}
		return nil
	})
	if off != maxVMs {
		w.t.Errorf("the schedule turned %d VMs off, not %d", off, maxVMs)
	}
	w.ctl("restore")
	time.Sleep(w.within(3 * time.Second))
	attacks[3*w.random.IntN(2)].do(w)
	w.eventually("everybody is back", w.back)
	return off
}

// noneFailed checks that no remediation failed, and that each that came to a decision made it known.
func (w *world) noneFailed(since time.Time) {
	w.t.Helper()
	for _, kind := range []string{placement.KindResize, placement.KindReconfigure, placement.KindMove} {
		list, err := w.client.ListWorkflow(w.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: fmt.Sprintf("WorkflowType = %q AND StartTime >= %q", placement.WorkflowType(kind), since.UTC().Format(time.RFC3339Nano)), PageSize: 1000,
		})
		w.must(err)
		if len(list.GetExecutions()) == 0 {
			w.t.Errorf("there is no %s", kind)
		}
		for _, e := range list.GetExecutions() {
			id := e.GetExecution().GetWorkflowId()
			var r remediateapi.Report
			r, err := remediateapi.ReportOf(w.client.GetWorkflow(w.t.Context(), id, e.GetExecution().GetRunId()).Get(w.t.Context(), &r), r)
			if err != nil || e.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_FAILED {
				w.t.Errorf("%s: %v", id, err)
			}
			for _, d := range r.Decisions {
				if d.State == remediateapi.Failed {
					w.t.Errorf("%s failed: %s", id, d.Reason)
				}
			}
		}
	}
}
