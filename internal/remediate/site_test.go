package remediate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// site is a vCenter in memory, a ledger, and the settings of a worker. One workflow runs in it at a time.
type site struct {
	t        *testing.T
	env      *testsuite.TestWorkflowEnvironment
	settings remediate.Settings

	vms       map[vsphere.Ref]*placement.VM
	storage   placement.Storage
	recommend vsphere.Ref                // the datastore that Storage DRS names
	running   bool                       // a task of an earlier attempt is under way
	foreign   string                     // why an alarm is another vCenter's
	evidence  vcenter.Evidence           // who turned a VM off
	deaf      bool                       // guests do not shut down
	mu        sync.Mutex                 // of what follows: what was decided is told beside the next request
	fails     map[string][]error         // by operation: what its next calls answer; nil: they work
	before    map[string]func()          // by operation: what happens just before it
	tags      map[string]map[string]bool // that exist, by category
	attribute map[vsphere.Ref]string     // last annotation
	done      []string                   // what was changed, in order
	ledger    ledger.State
}

func newSite(t *testing.T, vms ...placement.VM) *site {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	s := &site{
		t: t, env: suite.NewTestWorkflowEnvironment(), settings: remediate.DefaultSettings(), vms: map[vsphere.Ref]*placement.VM{},
		fails: map[string][]error{}, before: map[string]func(){}, tags: map[string]map[string]bool{}, attribute: map[vsphere.Ref]string{},
		evidence: vcenter.Evidence{Event: "VmPoweredOffEvent", User: "us", Ours: true},
	}
	s.settings.EventSource = "//127.0.0.1:7233/default"
	s.settings.Timing.Retry, s.settings.Timing.Heartbeat = time.Millisecond, time.Minute
	for _, vm := range vms {
		s.vms[vm.Ref] = &vm
	}
	return s
}

// web is a VM with two CPUs and 4 GB that takes more of both while it is on.
func web(n int) placement.VM {
	return placement.VM{
		Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d", n)}, Name: fmt.Sprintf("web-%d", n),
		PowerState: vsphere.PoweredOn, Connected: true, ToolsRunning: true, ChangeVersion: "1",
		Hardware: placement.Hardware{CPUs: 2, CoresPerSocket: 1, MemoryMB: 4096, CPUHotAdd: true, MemoryHotAdd: true},
		HostCPUs: 32, HostMemoryMB: 65536, HotMemoryLimitMB: 65536, HotMemoryStepMB: 128, Tags: map[string][]string{},
	}
}

// fault is an error of vCenter.
func fault(kind vcenter.Kind) error {
	return &vcenter.Error{Op: "do it", Kind: kind, Err: errors.New("vCenter says " + string(kind))}
}

// activities are the worker's, with the site in the place of vCenter and the ledger.
func (s *site) activities() *remediate.Activities {
	sender, err := notify.New([]string{"127.0.0.1"}, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return &remediate.Activities{
		VCenter: s, Ledger: book{s}, TaskQueue: "q", Notify: sender, Settings: s.settings, Log: slog.New(slog.DiscardHandler),
	}
}

// run runs a workflow to its end.
func (s *site) run(workflow string, input any) error {
	s.t.Helper()
	remediate.Register(s.env, s.activities())
	s.env.SetTestTimeout(20 * time.Second)
	s.env.ExecuteWorkflow(workflow, input)
	if !s.env.IsWorkflowCompleted() {
		s.t.Fatal("the workflow does not end")
	}
	return s.env.GetWorkflowError()
}

// decide carries out requests, and returns what was decided about them.
func (s *site) decide(kind string, requests ...placement.Request) []remediateapi.Decision {
	s.t.Helper()
	err := s.run(placement.WorkflowType(kind), remediateapi.Input{Requests: requests})
	var r remediateapi.Report
	if err == nil {
		err = s.env.GetWorkflowResult(&r)
	}
	r, err = remediateapi.ReportOf(err, r)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Decisions
}

// decided carries out one request, and checks the state and a part of the reason.
func (s *site) decided(req placement.Request, state remediateapi.State, reason string) remediateapi.Decision {
	s.t.Helper()
	all := s.decide(req.Kind, req)
	if len(all) == 0 {
		s.t.Fatal("nothing was decided")
	}
	d := all[len(all)-1]
	if d.State != state || !strings.Contains(d.Reason, reason) {
		s.t.Errorf("got %s: %q, want %s: ...%s...", d.State, d.Reason, state, reason)
	}
	return d
}

// wantDone checks what was changed in vCenter, in its order.
func (s *site) wantDone(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.done, want) {
		s.t.Errorf("vCenter was asked to\n  %s\nwant\n  %s", strings.Join(s.done, "\n  "), strings.Join(want, "\n  "))
	}
}

// act is one operation: what happens before it, and the error that it is to answer.
func (s *site) act(operation string) error {
	s.mu.Lock()
	f := s.before[operation]
	delete(s.before, operation)
	s.mu.Unlock()
	if f != nil {
		f()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if list := s.fails[operation]; len(list) > 0 {
		s.fails[operation] = list[1:]
		return list[0]
	}
	return nil
}

// did notes a change.
func (s *site) did(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, fmt.Sprintf(format, args...))
}

var task = vsphere.Ref{Type: "Task", Value: "task-1"}

func (s *site) FindVM(_ context.Context, name string) (vsphere.Ref, error) {
	for ref, vm := range s.vms {
		if vm.Name == name {
			return ref, nil
		}
	}
	return vsphere.Ref{}, fault(vcenter.NotFound)
}

func (s *site) Hardware(_ context.Context, refs []vsphere.Ref) (map[vsphere.Ref]placement.VM, error) {
	all := map[vsphere.Ref]placement.VM{}
	err := s.act("hardware")
	for _, ref := range refs {
		if vm := s.vms[ref]; vm != nil {
			all[ref] = *vm
		}
	}
	return all, err
}

func (s *site) TagsOf(_ context.Context, refs []vsphere.Ref, _ ...string) (map[vsphere.Ref]map[string][]string, error) {
	all := map[vsphere.Ref]map[string][]string{}
	for _, ref := range refs {
		if vm := s.vms[ref]; vm != nil {
			all[ref] = vm.Tags
		}
	}
	return all, s.act("tags of")
}

func (s *site) WithTags(context.Context, []string) ([]vsphere.Ref, error) {
	refs := slices.Collect(maps.Keys(s.vms))
	slices.SortFunc(refs, func(a, b vsphere.Ref) int { return strings.Compare(a.Value, b.Value) })
	return refs, s.act("with tags")
}

func (s *site) Foreign(context.Context, vcenter.AlarmEvent) (string, error) { return s.foreign, nil }

func (s *site) Addresses() []string { return []string{"vcenter.example.com"} }

func (s *site) ShutdownGuest(_ context.Context, ref vsphere.Ref) error {
	err := s.act("shut down")
	if err == nil {
		s.did("shut down %s", s.vms[ref].Name)
		if !s.deaf {
			s.vms[ref].PowerState = vsphere.PoweredOff
		}
	}
	return err
}

func (s *site) AwaitOff(ctx context.Context, waits []vcenter.Wait, report func(vsphere.Ref, vcenter.WaitResult)) error {
	if s.vms[waits[0].VM].PowerState == vsphere.PoweredOff {
		report(waits[0].VM, vcenter.WaitResult{Off: true})
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *site) AwaitEvidence(_ context.Context, refs []vsphere.Ref, _ time.Time) (map[vsphere.Ref]vcenter.Evidence, error) {
	return map[vsphere.Ref]vcenter.Evidence{refs[0]: s.evidence}, s.act("evidence")
}

func (s *site) PowerOn(_ context.Context, ref vsphere.Ref) (vsphere.Ref, error) {
	err := s.act("power on")
	if err == nil {
		s.did("power on %s", s.vms[ref].Name)
		s.vms[ref].PowerState = vsphere.PoweredOn
	}
	return task, err
}

func (s *site) AwaitOn(_ context.Context, waits []vcenter.Wait, report func(vsphere.Ref, vcenter.WaitResult)) error {
	report(waits[0].VM, vcenter.WaitResult{On: true})
	return nil
}

func (s *site) Reconfigure(_ context.Context, ref vsphere.Ref, c placement.Change, _ string) (vsphere.Ref, error) {
	err := s.act("reconfigure")
	if err == nil {
		vm := s.vms[ref]
		vm.Hardware = c.Apply(vm.Hardware)
		s.did("reconfigure %s to %d CPUs and %d MB", vm.Name, vm.CPUs, vm.MemoryMB)
	}
	return task, err
}

func (s *site) RunningTask(context.Context, vsphere.Ref, string) (vsphere.Ref, bool, error) {
	return task, s.running, s.act("running task")
}

func (s *site) AwaitTask(context.Context, vsphere.Ref, func(int)) error { return s.act("await task") }

func (s *site) SetTag(_ context.Context, ref vsphere.Ref, category, value string) error {
	err := s.act("tag")
	if err == nil {
		s.vms[ref].Tags[category] = []string{value}
		s.did("tag %s %s=%s", s.vms[ref].Name, category, value)
	}
	return err
}

func (s *site) EnsureTags(_ context.Context, values map[string][]string, dryRun bool) (created, existed []vcenter.TagName, err error) {
	for _, category := range slices.Sorted(maps.Keys(values)) {
		for _, name := range values[category] {
			if s.tags[category][name] {
				existed = append(existed, vcenter.TagName{Category: category, Name: name})
				continue
			}
			created = append(created, vcenter.TagName{Category: category, Name: name})
			if !dryRun {
				s.did("make %s=%s", category, name)
			}
		}
	}
	return created, existed, s.act("make tags")
}

func (s *site) Annotate(_ context.Context, ref vsphere.Ref, _, value string) error {
	err := s.act("annotate")
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.attribute[ref] = value
	}
	return err
}

// book is the ledger's state, by the clock of the workflow.
type book struct{ *site }

func (b book) RemedyFacts(_ context.Context, r ledger.RemedyFactsRequest) (ledger.RemedyFacts, error) {
	if err := b.act("ask the ledger"); err != nil {
		return ledger.RemedyFacts{}, err
	}
	return b.ledger.RemedyFacts(b.env.Now(), r), nil
}

func (b book) Remedy(_ context.Context, r ledger.RemedyRequest) (ledger.RemedyGrant, error) {
	if err := b.act("reserve"); err != nil {
		return ledger.RemedyGrant{}, err
	}
	return b.ledger.Remedy(b.env.Now(), r), nil
}

func (b book) Remedied(_ context.Context, r ledger.RemediedRequest) error {
	b.ledger.Remedied(b.env.Now(), r)
	return nil
}
