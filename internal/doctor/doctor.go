// Package doctor has a worker look whether it can do what its file asks of it: whether vCenter answers, trusts and
// obeys it, and knows what the rules name. It looks and changes nothing. It imports of ours the root contract, alarm,
// policy, remedy, trigger, step, vcenter and its own contract, and no package of workflows.
package doctor

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/doctor/contract"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

const (
	heartbeat = 10 * time.Second
	lookTime  = 50 * time.Second // for all checks together
	reachTime = 15 * time.Second // of it for vCenter to answer at all
)

// Activities are what a worker tells and looks with.
type Activities struct {
	VCenter  *vcenter.Gateway
	Rules    []trigger.Rule
	Policies map[string]policy.Policy
	Observe  bool   // the file's mode: no VM is touched
	Worker   string // identity
	Version  string
}

// Register adds the workflow and its activity to a worker.
func Register(r worker.Registry, a *Activities) {
	r.RegisterWorkflowWithOptions(Diagnosis, workflow.RegisterOptions{Name: contract.Type})
	r.RegisterActivityWithOptions(a.Diagnose, activity.RegisterOptions{Name: "Diagnose"})
}

// Diagnosis has one worker look. A person waits for it.
func Diagnosis(ctx workflow.Context, _ contract.Input) (res contract.Result, err error) {
	var a *Activities
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: lookTime + heartbeat, ScheduleToCloseTimeout: 2 * time.Minute, HeartbeatTimeout: heartbeat,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 2}, // for a worker that dies meanwhile
	})
	err = workflow.ExecuteActivity(ctx, a.Diagnose).Get(ctx, &res)
	return res, err
}

// Diagnose looks.
func (a *Activities) Diagnose(ctx context.Context) (contract.Result, error) {
	skew := time.Since(activity.GetInfo(ctx).StartedTime) // before anything takes time
	defer step.Beat(ctx, heartbeat)()
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	e := &examination{Activities: a}
	e.clock("clock of Temporal", "Temporal's", skew)
	if e.reach(ctx) {
		e.alarmsSeen(ctx)
		e.rules(ctx)
		e.tags(ctx)
		e.attribute(ctx)
		e.privileges(ctx)
	} else {
		e.add(contract.Skipped, "the rest", "rules, tags, attribute and privileges are not checked", "correct what failed first")
	}
	e.policies()
	return contract.Result{Worker: a.Worker, Version: a.Version, Rules: len(a.Rules), Checks: e.checks}, nil
}

// examination collects what is found.
type examination struct {
	*Activities
	checks  []contract.Check
	carrier []policy.Ref // VMs that carry the tag of a rule
}

func (e *examination) add(state contract.State, name, text, remedy string) {
	e.checks = append(e.checks, contract.Check{Name: name, State: state, Text: text, Remedy: remedy})
}

// maxSkew is how far clocks may be apart: a red alarm is as old as its event says.
const maxSkew = 5 * time.Second

// clock tells of the worker's clock against another; ahead is by how much the worker's is ahead.
func (e *examination) clock(name, whose string, ahead time.Duration) {
	text := fmt.Sprintf("the worker's clock is %s %s", ahead.Abs().Round(time.Millisecond), map[bool]string{true: "behind ", false: "ahead of "}[ahead < 0]+whose)
	if ahead.Abs() > maxSkew {
		e.add(contract.Warning, name, text, "let NTP set the clocks of the worker's machine, vCenter and Temporal")
		return
	}
	e.add(contract.OK, name, text, "")
}
