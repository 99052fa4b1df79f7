package remediate_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// tagged is a VM that is off, and whose tags ask for 4 CPUs.
func tagged(n int) placement.VM {
	vm := web(n)
	vm.PowerState, vm.Tags = vsphere.PoweredOff, map[string][]string{placement.CategoryCPUs: {"4"}}
	return vm
}

func poweredOff(vm placement.VM) placement.Request {
	return placement.Request{ID: "event-1", Kind: placement.KindReconfigure, VM: vm.Ref, Cause: placement.Cause{Event: "VmPoweredOffEvent"}}
}

func TestTheTagsOfAVMAreAppliedWhileItIsOff(t *testing.T) {
	const applied = "reconfigure web-1 to 4 CPUs and 4096 MB"
	for name, c := range map[string]struct {
		change func(*site, *placement.VM, *placement.Request)
		state  remediateapi.State
		reason string
		done   []string
	}{
		"it is off": {nil, remediateapi.Applied, "its tags were applied: CPUs 2 → 4", []string{applied}},
		"one of its tags is no size": {func(_ *site, vm *placement.VM, _ *placement.Request) {
			vm.Tags[placement.CategoryMemory] = []string{"much"}
		}, remediateapi.Applied, "not applied: config.hardware.memoryMB=much: it is not a whole number", []string{applied}},
		"none of its tags can be applied": {func(_ *site, vm *placement.VM, _ *placement.Request) {
			vm.Tags[placement.CategoryCPUs] = []string{"many"}
		}, remediateapi.Infeasible, "none of its tags can be applied", nil},
		"it is as its tags want it": {func(_ *site, vm *placement.VM, _ *placement.Request) { vm.CPUs = 4 }, remediateapi.Skipped, "it is as its tags want it", nil},
		"it has no such tags":       {func(_ *site, vm *placement.VM, _ *placement.Request) { clear(vm.Tags) }, remediateapi.Skipped, "it has no configuration tags", nil},
		"it is on":                  {func(_ *site, vm *placement.VM, _ *placement.Request) { vm.PowerState = vsphere.PoweredOn }, remediateapi.Deferred, "its tags stay for the next power-off", nil},
		"its owner keeps it out": {func(_ *site, vm *placement.VM, _ *placement.Request) {
			vm.Tags[placement.CategoryMode] = []string{"off"}
		}, remediateapi.Skipped, "keeps it out", nil},
		"its owner wants to be told": {func(_ *site, vm *placement.VM, _ *placement.Request) {
			vm.Tags[placement.CategoryMode] = []string{"recommend"}
		}, remediateapi.Planned, "the mode is recommend", nil},
		"a dry run":                {func(_ *site, _ *placement.VM, r *placement.Request) { r.DryRun = true }, remediateapi.Planned, "CPUs 2 → 4", nil},
		"the worker only observes": {func(s *site, _ *placement.VM, _ *placement.Request) { s.settings.Observe = true }, remediateapi.Planned, "only observes", nil},
		"it is gone":               {func(s *site, vm *placement.VM, _ *placement.Request) { delete(s.vms, vm.Ref) }, remediateapi.Infeasible, "does not exist", nil},
		"it is powered on meanwhile": {func(s *site, vm *placement.VM, _ *placement.Request) {
			s.before["reserve"] = func() { vm.PowerState = vsphere.PoweredOn }
		}, remediateapi.Deferred, "it was powered on meanwhile", nil},
		"it is resized meanwhile": {func(s *site, vm *placement.VM, _ *placement.Request) {
			s.before["reserve"] = func() { vm.Tags = map[string][]string{} }
		}, remediateapi.Skipped, "nothing is left to change", nil},
		"vCenter refuses the size": {func(s *site, _ *placement.VM, _ *placement.Request) {
			s.fails["reconfigure"] = []error{fault(vcenter.NoRoom)}
		}, remediateapi.Infeasible, "vCenter refuses the settings of its tags", nil},
		"we may not change it": {func(s *site, _ *placement.VM, _ *placement.Request) {
			s.fails["reconfigure"] = []error{fault(vcenter.NoPermission)}
		}, remediateapi.Failed, "reconfigure it", nil},
		"it cannot be read": {func(s *site, _ *placement.VM, _ *placement.Request) {
			s.fails["hardware"] = []error{fault(vcenter.NoPermission)}
		}, remediateapi.Failed, "plan the reconfiguration", nil},
		"the ledger does not answer at first": {func(s *site, _ *placement.VM, _ *placement.Request) {
			s.fails["ask the ledger"] = []error{errors.New("no answer")}
		}, remediateapi.Applied, "", []string{applied}},
		"it cannot be annotated": {func(s *site, _ *placement.VM, _ *placement.Request) {
			s.fails["annotate"] = []error{fault(vcenter.NoPermission)}
		}, remediateapi.Applied, "", []string{applied}},
	} {
		t.Run(name, func(t *testing.T) {
			s, req := newSite(t, tagged(1)), poweredOff(tagged(1))
			if c.change != nil {
				c.change(s, s.vms[req.VM], &req)
			}
			d := s.decided(req, c.state, c.reason)
			s.wantDone(c.done...)
			if name == "it cannot be annotated" && d.AnnotationError == "" {
				t.Error("that the attribute was not written is not said")
			}
			if name == "it has no such tags" && s.attribute[req.VM] != "" {
				t.Error("a VM without tags is told at each power-off")
			}
		})
	}
}

// inWindow is an alarm of a VM that takes no CPUs while it is on, under a rule whose window is each night.
func inWindow(vm placement.VM) placement.Request {
	req := cpuAlarm(vm, placement.ModePowerCycle)
	req.Resize.Window, req.Resize.Duration = "0 2 * * *", clock.Duration(time.Hour)
	return req
}

func TestWithinItsWindowAVMIsShutDownReconfiguredAndPoweredOn(t *testing.T) {
	const tag, down, change, up = "tag web-1 config.hardware.numCPU=3", "shut down web-1", "reconfigure web-1 to 3 CPUs and 4096 MB", "power on web-1"
	for name, c := range map[string]struct {
		change func(*site, *placement.VM)
		state  remediateapi.State
		reason string
		done   []string
	}{
		"as planned": {nil, remediateapi.Applied, "turned off and on within the window", []string{tag, down, change, up}},
		"a person turned it off": {func(s *site, _ *placement.VM) {
			s.evidence = vcenter.Evidence{Event: "VmPoweredOffEvent", User: "anna"}
		}, remediateapi.Applied, "somebody else turned it off: it stays off", []string{tag, down, change}},
		"its guest went off by itself": {func(s *site, _ *placement.VM) { s.evidence = vcenter.Evidence{Event: "VmPoweredOffEvent"} }, remediateapi.Applied, "", []string{tag, down, change, up}},
		"no event says who it was":     {func(s *site, _ *placement.VM) { s.evidence = vcenter.Evidence{} }, remediateapi.Applied, "", []string{tag, down, change, up}},
		"there is no room at first": {func(s *site, _ *placement.VM) {
			s.fails["power on"] = []error{fault(vcenter.NoRoom), fault(vcenter.Unavailable)}
		}, remediateapi.Applied, "", []string{tag, down, change, up}},
		"it was on already": {func(s *site, vm *placement.VM) {
			s.fails["power on"] = []error{fault(vcenter.InvalidState)}
			s.before["power on"] = func() { vm.PowerState = vsphere.PoweredOn }
		}, remediateapi.Applied, "", []string{tag, down, change}},
		"it does not power on":    {func(s *site, _ *placement.VM) { s.fails["power on"] = []error{fault(vcenter.NoPermission)} }, remediateapi.Failed, "it was turned off and does not power on, look at it", []string{tag, down, change}},
		"its guest runs no tools": {func(_ *site, vm *placement.VM) { vm.ToolsRunning = false }, remediateapi.Deferred, "runs no VMware Tools", []string{tag}},
		"its tools are starting": {func(s *site, vm *placement.VM) {
			vm.ToolsStarting = true
			s.fails["shut down"] = []error{fault(vcenter.ToolsUnavailable)}
		}, remediateapi.Applied, "", []string{tag, down, change, up}},
		"its guest cannot be asked": {func(s *site, _ *placement.VM) { s.fails["shut down"] = []error{fault(vcenter.NoPermission)} }, remediateapi.Failed, "shut the VM down", []string{tag}},
		"it is off by then": {func(s *site, vm *placement.VM) {
			s.env.RegisterDelayedCallback(func() { vm.PowerState = vsphere.PoweredOff }, time.Minute)
		}, remediateapi.Applied, "it stays off", []string{tag, change}},
		"vCenter refuses the size": {func(s *site, _ *placement.VM) { s.fails["reconfigure"] = []error{fault(vcenter.Invalid)} }, remediateapi.Infeasible, "vCenter refuses", []string{tag, down, up}},
		"we may not change it":     {func(s *site, _ *placement.VM) { s.fails["reconfigure"] = []error{fault(vcenter.NoPermission)} }, remediateapi.Failed, "reconfigure it while it was off", []string{tag, down, up}},
		"its owner says no meanwhile": {func(s *site, vm *placement.VM) {
			s.env.RegisterDelayedCallback(func() { vm.Tags[placement.CategoryMode] = []string{"tag"} }, time.Minute)
		}, remediateapi.Skipped, "did not let it be turned off", []string{tag}},
		"its wish is gone meanwhile": {func(s *site, vm *placement.VM) { s.env.RegisterDelayedCallback(func() { clear(vm.Tags) }, time.Minute) }, remediateapi.Skipped, "nothing was left to turn it off for", []string{tag}},
		"it cannot be looked at": {func(s *site, _ *placement.VM) {
			s.env.RegisterDelayedCallback(func() { s.fails["hardware"] = []error{fault(vcenter.NoPermission)} }, time.Minute)
		}, remediateapi.Failed, "look at the VM when the window was open", []string{tag}},
		"it is cancelled meanwhile": {func(s *site, _ *placement.VM) { s.env.RegisterDelayedCallback(s.env.CancelWorkflow, time.Minute) }, remediateapi.Deferred, "cancelled while it waited for the window", []string{tag}},
	} {
		t.Run(name, func(t *testing.T) {
			s, req := newSite(t, web(1)), inWindow(web(1))
			s.env.SetStartTime(time.Date(2099, 1, 1, 12, 0, 0, 0, time.UTC))
			vm := s.vms[req.VM]
			vm.CPUHotAdd = false
			if c.change != nil {
				c.change(s, vm)
			}
			s.decided(req, c.state, c.reason)
			s.wantDone(c.done...)
			if len(s.ledger.Holds) != 0 {
				t.Errorf("still held: %v", s.ledger.Holds)
			}
		})
	}
}

func TestAGuestThatDoesNotShutDownIsLeftOn(t *testing.T) {
	for name, c := range map[string]struct {
		left time.Duration
		want string
	}{
		"in a window of a moment": {300 * time.Millisecond, "its guest did not shut down within the window"},
		"in one that is over":     {-time.Second, "the window was over before its guest was asked to shut down"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, web(1))
			s.deaf = true
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestActivityEnvironment()
			a := s.activities()
			env.RegisterActivity(a)
			got, err := env.ExecuteActivity(a.ShutDownVM, remediate.ShutDownInput{VM: web(1).Ref, Since: time.Now(), Until: time.Now().Add(c.left)})
			if err != nil {
				t.Fatal(err)
			}
			var res remediate.ShutDownResult
			if err := got.Get(&res); err != nil || res.Off || res.Reason != c.want {
				t.Errorf("%+v, %v", res, err)
			}
			if s.vms[web(1).Ref].PowerState != vsphere.PoweredOn {
				t.Error("it is not on")
			}
		})
	}
}

func TestAReconciliationAppliesWhatNoEventTold(t *testing.T) {
	on, template := tagged(2), tagged(3)
	on.PowerState, template.Template = vsphere.PoweredOn, true
	for name, c := range map[string]struct {
		in     remediateapi.ReconcileInput
		change func(*site)
		state  remediateapi.State
		done   []string
	}{
		"it applies":              {remediateapi.ReconcileInput{}, nil, remediateapi.Applied, []string{"reconfigure web-1 to 4 CPUs and 4096 MB"}},
		"it is a dry run":         {remediateapi.ReconcileInput{DryRun: true}, nil, remediateapi.Planned, nil},
		"a VM cannot be changed":  {remediateapi.ReconcileInput{}, func(s *site) { s.fails["reconfigure"] = []error{fault(vcenter.NoPermission)} }, remediateapi.Failed, nil},
		"the tags cannot be read": {remediateapi.ReconcileInput{}, func(s *site) { s.fails["with tags"] = []error{fault(vcenter.NoPermission)} }, remediateapi.Failed, nil},
		"the VMs cannot be read":  {remediateapi.ReconcileInput{}, func(s *site) { s.fails["hardware"] = []error{fault(vcenter.NoPermission)} }, remediateapi.Failed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tagged(1), on, template, web(4))
			if c.change != nil {
				c.change(s)
			}
			err := s.run(remediateapi.ReconcileType, c.in)
			var r remediateapi.ReconcileResult
			var failed *temporal.ApplicationError
			if errors.As(err, &failed) {
				err = failed.Details(&r)
			} else if err == nil {
				err = s.env.GetWorkflowResult(&r)
			}
			if err != nil || r.State != c.state {
				t.Errorf("%+v, %v; want %s", r, err, c.state)
			}
			s.wantDone(c.done...)
		})
	}
}

func TestTagsAreMadeAndShown(t *testing.T) {
	values := map[string][]string{placement.CategoryCPUs: {"2", "4"}}
	result := func(s *site, in remediateapi.TagsInput) (r remediateapi.TagsResult, err error) {
		if err = s.run(remediateapi.TagsType, in); err == nil {
			err = s.env.GetWorkflowResult(&r)
		}
		return r, err
	}
	s := newSite(t)
	s.tags[placement.CategoryCPUs] = map[string]bool{"2": true}
	if r, err := result(s, remediateapi.TagsInput{Values: values}); err != nil || len(r.Created) != 1 || len(r.Existed) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	s.wantDone("make config.hardware.numCPU=4")
	s = newSite(t)
	s.settings.Observe = true
	if _, err := result(s, remediateapi.TagsInput{}); err == nil || !strings.Contains(err.Error(), "nothing is made") {
		t.Errorf("a worker that only observes makes tags: %v", err)
	}
	if r, err := result(newSite(t, tagged(1)), remediateapi.TagsInput{VM: "web-1"}); err != nil || r.Wanted.CPUs != 4 || r.Hardware.CPUs != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := result(newSite(t), remediateapi.TagsInput{VM: "web-1"}); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("a VM that does not exist is shown: %v", err)
	}
}
