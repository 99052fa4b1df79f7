package remediate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestARequestThatCannotBeCarriedOutSaysWhy(t *testing.T) {
	vm := web(1).Ref
	for name, c := range map[string]struct {
		kind string
		req  placement.Request
		want string
	}{
		"of another kind":           {placement.KindResize, placement.Request{Kind: placement.KindMove, VM: vm}, `it asks for a "move"; this workflow does a resize`},
		"for another task queue":    {placement.KindResize, placement.Request{VM: vm, TaskQueue: "elsewhere"}, `task queue "elsewhere"`},
		"with an endless id":        {placement.KindResize, placement.Request{VM: vm, ID: strings.Repeat("x", 2000)}, "longer than 1024 bytes"},
		"of a VM that is none":      {placement.KindReconfigure, placement.Request{VM: full}, `"Datastore:datastore-1" is no VM`},
		"of a store that is none":   {placement.KindMove, placement.Request{Source: vm}, `"VirtualMachine:vm-1" is no datastore`},
		"of nothing":                {placement.KindMove, placement.Request{}, "it names no VM and no datastore"},
		"of no VM":                  {placement.KindResize, placement.Request{Source: full}, "it names no VM"},
		"with a size out of bounds": {placement.KindResize, placement.Request{VM: vm, Resize: &placement.Resize{Resource: placement.CPU, Max: -1}}, "max"},
		"to an impossible target":   {placement.KindMove, placement.Request{Source: full, Move: &placement.Move{TargetUsage: 400}}, "targetUsage"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, web(1))
			all := s.decide(c.kind, c.req)
			if len(all) != 1 || all[0].State != remediateapi.Infeasible || !strings.Contains(all[0].Reason, c.want) {
				t.Errorf("got %+v, want %s", all, c.want)
			}
			s.wantDone()
		})
	}
}

func TestWhateverIsSignalledHarmsNoWorkflow(t *testing.T) {
	s := newSite(t, web(1))
	remediate.Register(s.env, s.activities())
	s.env.RegisterDelayedCallback(func() {
		s.env.SignalWorkflow(placement.Signal, "rubbish")
		s.env.SignalWorkflow(placement.Signal, strings.Repeat("x", 300<<10))
		s.env.SignalWorkflow(placement.Signal, cpuAlarm(web(1), placement.ModeHotOrOff))
	}, 0)
	s.env.ExecuteWorkflow(placement.ResizeType, remediateapi.Input{})
	var r remediateapi.Report
	if err := s.env.GetWorkflowResult(&r); err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, d := range r.Decisions {
		states = append(states, string(d.State))
	}
	if got := strings.Join(states, " "); got != "Infeasible Infeasible Applied" {
		t.Errorf("decided %s", got)
	}
}

func TestWhatHasArrivedGoesToTheNextRun(t *testing.T) {
	s := newSite(t, web(1), web(2))
	s.env.SetContinueAsNewSuggested(true)
	second := cpuAlarm(web(2), placement.ModeHotOrOff)
	second.ID = "event-2"
	bad := placement.Request{Kind: placement.KindResize, VM: vsphere.Ref{Type: "Folder", Value: "group-v1"}}
	err := s.run(placement.ResizeType, remediateapi.Input{Requests: []placement.Request{cpuAlarm(web(1), placement.ModeHotOrOff), bad, second}})
	if err == nil || !strings.Contains(err.Error(), "continue as new") {
		t.Errorf("it ends with %v", err)
	}
	s.wantDone("reconfigure web-1 to 3 CPUs and 4096 MB")
}

func TestTheReportIsAnsweredWhileAVMIsWaitedFor(t *testing.T) {
	s := newSite(t, web(1))
	s.vms[web(1).Ref].CPUHotAdd = false
	s.env.SetStartTime(time.Date(2099, 1, 1, 12, 0, 0, 0, time.UTC))
	s.env.RegisterDelayedCallback(func() {
		var r remediateapi.Report
		answer, err := s.env.QueryWorkflow(remediateapi.StateQuery)
		if err == nil {
			err = answer.Get(&r)
		}
		if err != nil || len(r.Decisions) != 1 || r.Decisions[0].State != remediateapi.Working ||
			!strings.Contains(r.Decisions[0].Reason, "waits for the window at 2099-01-02T02:00:00Z") {
			t.Errorf("%+v, %v", r, err)
		}
	}, time.Minute)
	s.decided(inWindow(web(1)), remediateapi.Applied, "")
}
