package faults

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// prototype is the original worker as its contract describes it: one loop over the signals, a run for each that comes
// more than a minute after the run before, with activities of these names, and a query.
type prototype struct {
	s      *sitetest.Site
	client client.Client
	worker worker.Worker

	mu    sync.Mutex
	stuck string         // the activity that does not come to an end; empty: all do
	did   map[string]int // what was begun
	free  chan struct{}
}

// startPrototype starts the original worker on the site's task queue.
func startPrototype(s *sitetest.Site, stuck string) *prototype {
	s.T.Helper()
	c, err := client.Dial(client.Options{HostPort: s.Server.HostPort(), Namespace: s.Server.Namespace(), Logger: sdklog.NewStructuredLogger(s.Log)})
	if err != nil {
		s.T.Fatal(err)
	}
	p := &prototype{s: s, client: c, stuck: stuck, did: map[string]int{}, free: make(chan struct{})}
	p.worker = worker.New(c, s.Queue, worker.Options{})
	p.worker.RegisterWorkflowWithOptions(p.workflow, workflow.RegisterOptions{Name: preemption.WorkflowName})
	for name, act := range map[string]func(context.Context, string) error{
		"GetPreemptibleVMs": nil, "PowerOffVMs": p.powerOff, "AnnotateVms": nil, "SendPreemptedEvent": nil,
	} {
		p.worker.RegisterActivityWithOptions(func(ctx context.Context, tag string) error { return p.do(ctx, name, tag, act) },
			activity.RegisterOptions{Name: name})
	}
	if err := p.worker.Start(); err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(p.kill)
	return p
}

// kill ends the worker as kill -9 does: nothing that is under way is told to anybody.
func (p *prototype) kill() {
	if p.client == nil {
		return
	}
	p.client.Close()
	go p.worker.Stop()
	p.client = nil
	p.s.T.Cleanup(func() { close(p.free) })
}

func (p *prototype) do(ctx context.Context, name, tag string, act func(context.Context, string) error) error {
	p.mu.Lock()
	p.did[name]++
	stuck := p.stuck == name
	p.mu.Unlock()
	if act != nil {
		if err := act(ctx, tag); err != nil {
			return err
		}
	}
	if stuck {
		<-p.free
	}
	return nil
}

// times is how often an activity was begun.
func (p *prototype) times(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.did[name]
}

// gone are the VMs that the prototype of these tests turns off.
func gone(s *sitetest.Site) []simulation.VM { return s.VC.TaggedVMs("cluster-b")[:1] }

func (p *prototype) powerOff(context.Context, string) error {
	for _, vm := range gone(p.s) {
		if err := p.s.VC.PowerOffAs(vm.Ref, "prototype"); err != nil {
			return err
		}
	}
	return nil
}

func (p *prototype) workflow(ctx workflow.Context) (string, error) {
	var last time.Time
	err := workflow.SetQueryHandler(ctx, preemption.WorkFlowQueryType, func() (string, error) {
		b, err := json.Marshal(map[string]any{"lastPreemptionTime": last})
		return string(b), err
	})
	if err != nil {
		return "", err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	signals := workflow.GetSignalChannel(ctx, preemption.SignalChannel)
	for ctx.Err() == nil {
		var req struct {
			Tag string `json:"tag"`
		}
		if !signals.Receive(ctx, &req) {
			break
		}
		if !last.IsZero() && workflow.Now(ctx).Sub(last) < time.Minute {
			continue
		}
		for _, name := range []string{"GetPreemptibleVMs", "PowerOffVMs", "AnnotateVms", "SendPreemptedEvent"} {
			if err := workflow.ExecuteActivity(ctx, name, req.Tag).Get(ctx, nil); err != nil {
				return "", err
			}
		}
		last = workflow.Now(ctx)
	}
	return "", nil
}
