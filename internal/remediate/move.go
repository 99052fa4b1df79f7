package remediate

import (
	"cmp"
	"fmt"
	"maps"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Move is the workflow that takes VMs off a full datastore, one after the other and measured anew before each, until
// its use is under the target; or one VM off the datastore that fills up beneath it. It fails only with its Report
// as the error's details.
func Move(ctx workflow.Context, in remediateapi.Input) (remediateapi.Report, error) {
	return serve(ctx, in, placement.KindMove, (*remediation).move)
}

// Bounds of one request.
const (
	maxMoves       = 200 // moves
	maxMoveFailure = 3   // failed moves, after which it gives up
	maxTold        = 100 // moves of a plan that are told, and VMs of which it is told why they stay
)

func (d *remediation) move(req placement.Request) {
	without := map[string]string{}
	moved, failures, by := 0, 0, ""
	for patience := d.newPatience(); ; {
		if d.info.GetContinueAsNewSuggested() {
			d.pending = append([]placement.Request{again(req)}, d.pending...)
			return
		}
		dec := d.open(req)
		by = cmp.Or(by, d.by(dec))
		plan, ok := d.planMove(dec, req, by, without)
		if !ok {
			d.release(dec, placement.KindMove, false)
			return
		}
		if len(plan.Moves.Moves) == 0 {
			d.release(dec, placement.KindMove, false)
			if d.waitsForOthers(dec, req, plan, &patience, without) {
				continue
			}
			d.noMore(dec, req, plan, moved)
			return
		}
		if moved+failures >= maxMoves || failures >= maxMoveFailure {
			d.conclude(dec, req, remediateapi.Failed, fmt.Sprintf("given up after %d moves, %d of them failed", moved+failures, failures))
			return
		}
		m := plan.Moves.Moves[0]
		dec.VM, dec.Name, dec.Cluster, dec.Move, dec.Stay, dec.StayCount = m.VM, m.Name, m.Cluster, &m, nil, nil
		t, _ := d.take(dec, ledger.RemedyRequest{
			What: placement.KindMove, Cooldown: req.Move.Cooldown.D(), Seen: plan.Version, Flight: flightOf(m),
			PerSource: d.setup.Moves.PerDatastore, PerHost: d.setup.Moves.PerHost, AtOnce: d.setup.Moves.AtOnce,
		}, req, req.VM.Zero())
		switch t {
		case takenNot:
			return
		case takenInUse:
			without[m.VM.String()] = inUse
		}
		if t != takenOK { // what it was planned from has changed
			d.drop()
			continue
		}
		err := d.relocate(dec, m)
		d.release(dec, placement.KindMove, true)
		if err != nil {
			without[m.VM.String()] = "moving it failed"
			failures++
			d.failed(dec, "move it to "+m.DestinationName, err, req)
		} else {
			moved++
			d.conclude(dec, req, remediateapi.Applied, fmt.Sprintf("moved from %s to %s: %s", m.SourceName, m.DestinationName, m.Why))
		}
		if d.asked.Err() != nil || !req.VM.Zero() {
			return
		}
	}
}

// again is the rest of a request, for another run: measured anew, it moves what is still to be moved.
func again(req placement.Request) placement.Request {
	req.ID = ""
	return req
}

// drop takes back a decision that came to nothing: it is planned again at once.
func (d *remediation) drop() { d.made = d.made[:len(d.made)-1] }

func (d *remediation) planMove(dec *remediateapi.Decision, req placement.Request, by string, without map[string]string) (plan MovePlan, ok bool) {
	in := PlanInput{Request: bare(req), By: by, Without: without}
	if err := workflow.ExecuteActivity(d.options(15*time.Minute, "plan"), steps.PlanMove, in).Get(d.ctx, &plan); err != nil {
		d.failed(dec, "plan the moves", err, req)
		return plan, false
	}
	m := plan.Moves
	dec.Source = nil
	if !m.Source.Ref.Zero() {
		dec.Source = &m.Source
	}
	dec.VM, dec.Name = plan.VM, plan.Name
	dec.Stay, dec.StayCount = m.Stay, plan.StayCount
	if plan.State != "" {
		dec.Plan = m.Moves
	}
	return plan, d.goesOn(dec, req, plan.Verdict)
}

// noMore ends a request that leaves nothing to move.
func (d *remediation) noMore(dec *remediateapi.Decision, req placement.Request, plan MovePlan, moved int) {
	m := plan.Moves
	switch {
	case moved > 0 && m.Enough: // each move was told
		d.drop()
	case m.Enough:
		dec.Stay, dec.StayCount = nil, nil // nobody was looked at
		d.conclude(dec, req, remediateapi.Skipped, m.Reason)
	default:
		d.conclude(dec, req, remediateapi.Infeasible, m.Reason)
	}
}

// patience is how long and how often something was waited for.
type patience struct {
	until time.Time
	turns int
}

func (d *remediation) newPatience() patience {
	return patience{until: workflow.Now(d.ctx).Add(d.setup.Timing.Patience)}
}

// waitsForOthers waits a while where not enough can be moved, and other VMs perhaps could later: those that other workflows have,
// and those that moved a short time ago. It reports whether to plan again. An alarm comes once: who gave up now would leave the
// datastore as full as it is.
func (d *remediation) waitsForOthers(dec *remediateapi.Decision, req placement.Request, plan MovePlan, p *patience, without map[string]string) bool {
	if plan.Held+plan.Cooling == 0 || plan.Moves.Enough || req.DryRun || req.Move.Mode == placement.ModeRecommend || d.setup.Observe {
		return false
	}
	if workflow.GetVersion(d.ctx, "wait-for-held-vms", workflow.DefaultVersion, 1) == workflow.DefaultVersion || !workflow.Now(d.ctx).Before(p.until) {
		return false
	}
	dec.Reason, dec.Until = "waits: "+waitsFor(plan), p.until.UTC()
	d.show(dec)
	p.turns++
	wait := d.setup.Timing.Wait * time.Duration(1+min(p.turns/8, 7))
	if workflow.Sleep(d.asked, wait) != nil {
		dec.Until = time.Time{} // it is cancelled, and told as it stands
		return false
	}
	d.drop()
	maps.DeleteFunc(without, func(_, why string) bool { return why == inUse })
	return true
}

// waitsFor says which VMs could be moved later.
func waitsFor(plan MovePlan) string {
	var all []string
	if plan.Held > 0 {
		all = append(all, "other workflows have "+shown.Count(plan.Held, "VM")+" on it")
	}
	if plan.Cooling > 0 {
		all = append(all, shown.Count(plan.Cooling, "VM")+" on it moved a short time ago")
	}
	return strings.Join(all, ", ")
}

func (d *remediation) relocate(dec *remediateapi.Decision, m placement.Relocation) error {
	dec.Reason = "moves to " + m.DestinationName
	d.show(dec)
	ctx := d.options(d.setup.Timing.Move, fmt.Sprintf("move %s to %s", m.Name, m.DestinationName))
	var at vsphere.Ref
	return workflow.ExecuteActivity(ctx, steps.RelocateVM, m).Get(d.ctx, &at)
}

func flightOf(m placement.Relocation) *placement.Flight {
	return &placement.Flight{VM: m.VM, Source: m.Source, Destination: m.Destination, Host: m.Host, Used: m.Used, Provisioned: m.Provisioned}
}
