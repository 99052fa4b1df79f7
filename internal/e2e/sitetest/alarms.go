package sitetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// RulesOn makes of each name, glob or MoRef a rule that preempts.
func RulesOn(alarms ...string) (rules []trigger.Rule) {
	for _, name := range alarms {
		rules = append(rules, trigger.Rule{Alarm: name, Action: trigger.Preempt{Tag: "preemptible"}})
	}
	return rules
}

func alarmsOf(rules []trigger.Rule) (alarms []string) {
	for _, r := range rules {
		alarms = append(alarms, r.Alarm)
	}
	return alarms
}

func vcenterHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Host
}

// QuickWatch looks more often than the watch does in production.
var QuickWatch = watch.Timing{Poll: 50 * time.Millisecond, Compare: 2 * time.Second, Heartbeat: 2 * time.Second, Lease: time.Minute}

// Watched is a site whose worker watches for the alarm "cpu", known by the site's own name for it.
func Watched(t testing.TB, opts ...Option) *Site {
	t.Helper()
	s := New(t, opts...)
	s.Rules = RulesOn(s.ID("cpu"))
	return s
}

// Watch starts the watch and waits until it follows.
func (s *Site) Watch(timing watch.Timing) {
	s.T.Helper()
	s.Must(watch.Ensure(s.T.Context(), s.Temporal, s.Queue, timing))
	s.Follows()
}

// Follows waits until the watch has looked at vCenter.
func (s *Site) Follows() watchapi.Checkpoint {
	s.T.Helper()
	return s.Point("the watch follows", func(c watchapi.Checkpoint) bool { return !c.Compared.IsZero() && c.Trouble == "" })
}

// Point polls the watch's checkpoint, from the heartbeat of its activity, until ok says so.
func (s *Site) Point(what string, ok func(watchapi.Checkpoint) bool) (c watchapi.Checkpoint) {
	s.T.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), watchapi.WorkflowID(s.Queue), "")
		if err != nil {
			s.T.Fatal(err)
		}
		if len(d.PendingActivities) == 0 || d.PendingActivities[0].HeartbeatDetails == nil {
			continue
		}
		c = watchapi.Checkpoint{}
		if err := converter.GetDefaultDataConverter().FromPayloads(d.PendingActivities[0].HeartbeatDetails, &c); err != nil {
			s.T.Fatal(err)
		}
		if ok(c) {
			return c
		}
	}
	b, _ := json.MarshalIndent(c, "", " ")
	s.T.Fatalf("never: %s; last checkpoint:\n%s", what, b)
	return c
}

// Alarm posts a change of the site's alarm on a host of a cluster.
func (s *Site) Alarm(cluster string, host int, from, to string) types.AlarmStatusChangedEvent {
	s.T.Helper()
	return s.Post("cpu", cluster, host, from, to)
}

// Post posts a change of an alarm on a host of a cluster, and returns the event.
func (s *Site) Post(name, cluster string, host int, from, to string) types.AlarmStatusChangedEvent {
	s.T.Helper()
	cl := s.VC.Cluster(cluster)
	ev, err := s.VC.PostAlarm(s.T.Context(), simulation.AlarmChange{
		Name: s.ID(name), Entity: cl.Hosts[host].Ref, From: from, To: to, Cluster: cl.Ref,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return ev
}

// Intake is the id, without the site's own part, of the intake of an alarm on a cluster.
func (s *Site) Intake(name, cluster string) string {
	return name + "@" + s.VC.Cluster(cluster).Ref.Value + "@" + s.Queue
}

// Exists waits until a workflow of the id is there.
func (s *Site) Exists(id string) string {
	s.T.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		_, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), s.ID(id), "")
		var missing *serviceerror.NotFound
		if err == nil {
			return id
		}
		if !errors.As(err, &missing) {
			s.T.Fatal(err)
		}
	}
	s.T.Fatalf("there is no workflow %s", s.ID(id))
	return id
}

// Control pauses the watch or lets it go on, and waits until it does.
func (s *Site) Control(paused bool) {
	s.T.Helper()
	id := watchapi.WorkflowID(s.Queue)
	s.Must(s.Temporal.SignalWorkflow(s.T.Context(), id, "", watchapi.ControlSignal, watchapi.Control{Paused: paused, Reason: "a test"}))
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), id, "")
		if err != nil {
			s.T.Fatal(err)
		}
		if (len(d.PendingActivities) == 0) == paused {
			return
		}
	}
	s.T.Fatalf("the watch did not become paused=%v", paused)
}

// Rounds lists the ids of the site's rounds.
func (s *Site) Rounds() (ids []string) {
	s.T.Helper()
	list, err := s.Temporal.ListWorkflow(s.T.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = %q AND TaskQueue = %q", preemptapi.RoundType, s.Queue), PageSize: 1000,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	for _, e := range list.GetExecutions() {
		ids = append(ids, e.GetExecution().GetWorkflowId())
	}
	return ids
}

// Twins are two sites in one namespace, each with its vCenter, task queue and worker. Their clusters and hosts have the
// same references and names, and both have an alarm of the same name.
func Twins(t *testing.T) (one, other *Site, alarm string) {
	t.Helper()
	one, other = New(t), New(t)
	if one.VC.Cluster("cluster-a").Ref != other.VC.Cluster("cluster-a").Ref {
		t.Fatal("the sites are not alike")
	}
	alarm = "cpu-of-" + one.Queue
	one.Rules, other.Rules = RulesOn(alarm), RulesOn(alarm)
	one.Worker()
	other.Worker()
	return one, other, alarm
}

// Red lets an alarm turn red on a host of the first cluster.
func (s *Site) Red(alarm string) types.AlarmStatusChangedEvent {
	s.T.Helper()
	cl := s.VC.Cluster("cluster-a")
	ev, err := s.VC.PostAlarm(s.T.Context(), simulation.AlarmChange{Name: alarm, Entity: cl.Hosts[0].Ref, From: "green", To: "red", Cluster: cl.Ref})
	if err != nil {
		s.T.Fatal(err)
	}
	return ev
}
