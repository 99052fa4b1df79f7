package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// What a completion reads at most of the record, and how long it waits for each of its sources.
const (
	completionBack  = 7 * 24 * time.Hour
	completionReads = 1500 * time.Millisecond
	completionRows  = 200
	completionLast  = 3 // rounds whose candidates are offered too
)

// recent returns the record's entries of the last days, as far as they are read in time.
func (s *session) recent(ctx context.Context) (*record.Reader, []record.Entry) {
	ctx, cancel := context.WithTimeout(ctx, completionReads)
	defer cancel()
	rec := s.record()
	rec.Limits = record.Limits{Entries: completionRows, Bytes: 8 << 20, Open: 20, Intakes: 1, SideBySide: 8, Query: time.Second}
	since := s.app.Now().Add(-completionBack)
	entries, _, _ := rec.History(ctx, record.Filter{Since: since}) // without what could not be read
	return rec, entries
}

// named asks a worker for the names of a kind that vCenter, or the worker's file, has.
func (s *session) named(ctx context.Context, kind preemptapi.NameKind, prefix string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionReads)
	defer cancel()
	if polled, err := s.polled(ctx); err != nil || !polled {
		return nil
	}
	var out preemptapi.NamesResult
	run, err := s.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "preemption-plan-names-" + uuid.NewString(), TaskQueue: s.app.target.queue, WorkflowExecutionTimeout: completionReads,
		StaticSummary: "completes a command line",
	}, preemptapi.NamesType, preemptapi.NamesInput{List: kind, Prefix: prefix})
	if err != nil || run.Get(ctx, &out) != nil {
		return nil
	}
	return out.Listed
}

// both asks two sources at a time, and returns the names of the first before those of the second.
func both(first, second func() []string) []string {
	var a, b []string
	var wg sync.WaitGroup
	wg.Go(func() { a = first() })
	wg.Go(func() { b = second() })
	wg.Wait()
	return append(a, b...)
}

// vmNames lists VMs: those that something happened to lately, with what, the candidates of the last rounds, and those of vCenter.
func vmNames(ctx context.Context, s *session, prefix string) []string {
	return both(func() (names []string) {
		rec, entries := s.recent(ctx)
		rounds := 0
		for _, e := range entries {
			for _, vm := range e.VMs {
				names = append(names, described(vm.Called(), "%s, %s", vm.Words, timestamp(cmp.Or(e.EndedAt, e.StartedAt))))
			}
			if e.Kind != record.Round || e.Spared == 0 || rounds == completionLast {
				continue
			}
			rounds++
			if d, ok, err := rec.Round(ctx, e.ID); err == nil && ok && d.Result != nil {
				for _, vm := range d.Result.Spared {
					names = append(names, vm.Name)
				}
			}
		}
		return names
	}, func() []string { return s.named(ctx, preemptapi.NamesOfVMs, prefix) })
}

// clusterNames lists clusters: those of the record, of the pauses that hold, and of vCenter.
func clusterNames(ctx context.Context, s *session, prefix string) []string {
	return both(func() (names []string) {
		_, entries := s.recent(ctx)
		for _, e := range entries {
			names = append(names, e.ClusterName)
			if e.Scope.Type == vsphere.TypeCluster {
				names = append(names, e.ScopeName)
			}
		}
		return names
	}, func() []string { return s.named(ctx, preemptapi.NamesOfClusters, prefix) })
}

// policyNames lists the policies of the worker's file, and those that rounds used.
func policyNames(ctx context.Context, s *session, prefix string) []string {
	return both(func() []string { return s.named(ctx, preemptapi.NamesOfPolicies, prefix) }, func() (names []string) {
		_, entries := s.recent(ctx)
		for _, e := range entries {
			names = append(names, e.Policy)
		}
		return names
	})
}

func datastoreNames(ctx context.Context, s *session, prefix string) []string {
	return s.named(ctx, preemptapi.NamesOfDatastores, prefix)
}

// alarmNames lists the alarms that caused something lately, or that an intake is for.
func alarmNames(ctx context.Context, s *session, _ string) []string {
	return both(func() (names []string) {
		_, entries := s.recent(ctx)
		for _, e := range entries {
			names = append(names, e.Alarm)
		}
		return names
	}, func() (names []string) {
		infos, _, _ := s.executions(ctx, s.ofQueue(preemption.WorkflowName), completionRows)
		for _, info := range infos {
			names = append(names, memoText(info, "alarm"))
		}
		return names
	})
}

// sparedNames lists the VMs that somebody spares.
func sparedNames(ctx context.Context, s *session, _ string) (names []string) {
	if polled, err := s.polled(ctx); err != nil || !polled {
		return nil
	}
	h, err := s.heldUp(ctx)
	if err != nil {
		return nil
	}
	for _, one := range h.Spares {
		ref, _ := vsphere.ParseRef(one.VM)
		names = append(names, described(cmp.Or(one.Name, ref.Value), "%s", one.Reason))
	}
	return names
}

// ofQueue is the query of workflows of some types on the task queue.
func (s *session) ofQueue(types ...string) string {
	return fmt.Sprintf("TaskQueue = '%s' AND WorkflowType IN ('%s')", quoted(s.app.target.queue), strings.Join(types, "','"))
}

// workflowIDs lists workflows, the newest first, with what they are.
func (s *session) workflowIDs(ctx context.Context, query string) (names []string) {
	infos, _, _ := s.executions(ctx, query, completionRows)
	for _, info := range infos {
		w := listing(info)
		names = append(names, described(w.WorkflowID, "%s, %s", w.Type, cmp.Or(w.State, w.Status)))
	}
	return names
}

var preemptions = []string{preemption.WorkflowName, preemptapi.RoundType, preemptapi.RestoreType, preemption.MakeRoomWorkflowName}

var remediationTypes = []string{placement.ResizeType, placement.ReconfigureType, placement.MoveType, remediateapi.ReconcileType}

func workflowsToSee(ctx context.Context, s *session, _ string) []string {
	return s.workflowIDs(ctx, s.ofQueue(preemptions...))
}

func workflowsUnderWay(ctx context.Context, s *session, _ string) []string {
	running := fmt.Sprintf(" AND ExecutionStatus = '%s'", enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING)
	return s.workflowIDs(ctx, s.ofQueue(slices.Concat(preemptions, remediationTypes)...)+running)
}

func intakes(ctx context.Context, s *session, _ string) []string {
	return s.workflowIDs(ctx, s.ofQueue(preemption.WorkflowName))
}

func remediations(ctx context.Context, s *session, _ string) []string {
	return s.workflowIDs(ctx, s.ofQueue(remediationTypes...))
}

// scheduleNames lists the schedules of the namespace.
func scheduleNames(ctx context.Context, s *session, _ string) (names []string) {
	iter, err := s.ScheduleClient().List(ctx, client.ScheduleListOptions{PageSize: completionRows})
	for err == nil && iter.HasNext() && len(names) < completionRows {
		var entry *client.ScheduleListEntry
		if entry, err = iter.Next(); err == nil {
			if name, ours := strings.CutPrefix(entry.ID, schedulePrefix); ours {
				names = append(names, name)
			}
		}
	}
	return names
}
