// Package doctor has a worker check whether it can do what its file asks of it: whether vCenter answers, trusts and
// obeys it, and knows what the rules name. It changes nothing, but for the value of one attribute that somebody asks it
// to try.
package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const (
	heartbeat = 10 * time.Second
	lookTime  = 50 * time.Second // for all checks together
	reachTime = 15 * time.Second // of it for vCenter to answer at all
)

// Activities are what a worker checks.
type Activities struct {
	VCenter  *vcenter.Gateway
	Rules    []trigger.Rule
	Policies map[string]policy.Policy
	Allowed  []string // tags that may be asked for; empty: any
	Observe  bool     // the file's mode: no VM is touched
	Worker   string   // identity
	Version  string
	// Takeovers lists which workflows of other programs are open on the task queue, and which the worker took over.
	Takeovers func() (open, taken []string, err error)
	// Channels reports whether people can be told.
	Channels func() []doctorapi.Check
}

// Register adds the workflow and its activity to a worker.
func Register(r worker.Registry, a *Activities) {
	r.RegisterWorkflowWithOptions(Diagnosis, workflow.RegisterOptions{Name: doctorapi.Type})
	r.RegisterActivityWithOptions(a.Diagnose, activity.RegisterOptions{Name: "Diagnose"})
}

// Diagnosis has one worker run the checks. A person waits for it.
func Diagnosis(ctx workflow.Context, in doctorapi.Input) (res doctorapi.Result, err error) {
	var a *Activities
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: lookTime + heartbeat, ScheduleToCloseTimeout: 2 * time.Minute, HeartbeatTimeout: heartbeat,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 2}, // for a worker that dies meanwhile
	})
	err = workflow.ExecuteActivity(ctx, a.Diagnose, in).Get(ctx, &res)
	return res, err
}

// Diagnose runs the checks.
func (a *Activities) Diagnose(ctx context.Context, in doctorapi.Input) (doctorapi.Result, error) {
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
		e.owners(ctx)
		e.allowed()
		e.attribute(ctx)
		e.privileges(ctx)
		e.live(ctx, in)
	} else {
		e.add(doctorapi.Skipped, "the rest", "rules, tags, attribute and privileges are not checked", "correct what failed first")
	}
	e.policies()
	e.hooks()
	if e.Channels != nil {
		e.checks = append(e.checks, e.Channels()...)
	}
	e.takeovers()
	return doctorapi.Result{Worker: a.Worker, Version: a.Version, Rules: len(a.Rules), Checks: e.checks}, nil
}

// examination collects what is found.
type examination struct {
	*Activities
	checks  []doctorapi.Check
	carrier []vsphere.Ref // VMs that carry the tag of a rule
}

func (e *examination) add(state doctorapi.State, name, text, remedy string) {
	e.checks = append(e.checks, doctorapi.Check{Name: name, State: state, Text: text, Remedy: remedy})
}

// maxSkew is how far clocks may be apart: a red alarm is as old as its event says.
const maxSkew = 5 * time.Second

// clock compares the worker's clock with another; ahead is by how much the worker's is ahead.
func (e *examination) clock(name, whose string, ahead time.Duration) {
	way := "ahead of"
	if ahead < 0 {
		way = "behind"
	}
	text := fmt.Sprintf("the worker's clock is %s %s %s", ahead.Abs().Round(time.Millisecond), way, whose)
	if ahead.Abs() > maxSkew {
		e.add(doctorapi.Warning, name, text, "let NTP set the clocks of the worker's machine, vCenter and Temporal")
		return
	}
	e.add(doctorapi.OK, name, text, "")
}

// takeovers reports workflows that another program began.
func (e *examination) takeovers() {
	const name = "workflows of other programs"
	if e.Takeovers == nil {
		return
	}
	open, taken, err := e.Takeovers()
	switch {
	case err != nil:
		e.add(doctorapi.Warning, name, "the worker could not look for them: "+err.Error(), "it looks again each minute; read its log")
	case len(open) > 0:
		e.add(doctorapi.Failed, name, fmt.Sprintf("%d are open and could not be taken over: %s", len(open), strings.Join(open, "; ")),
			"the worker tries again each minute; read its log")
	case len(taken) > 0:
		e.add(doctorapi.Warning, name, "the worker took over "+strings.Join(taken, "; "), "make sure that no worker of the prototype, or of an older release, runs any more")
	default:
		e.add(doctorapi.OK, name, "none is open on the task queue", "")
	}
}
