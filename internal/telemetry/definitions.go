package telemetry

import (
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
)

// Part is a part of the product with metrics of its own.
type Part string

// The parts. The metrics of Temporal's SDK belong to both.
const (
	Worker   Part = "worker"
	Receiver Part = "receiver"
)

// Kind is the type of a metric.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// definition is one metric.
type definition struct {
	name    string // for recording; it is exported with the unit or _total appended
	kind    Kind
	labels  []string
	help    string
	parts   []Part
	start   [][]string // values of each label for which a counter starts at 0
	buckets []float64
}

// exported is the name that Prometheus sees.
func (d definition) exported() string {
	switch d.kind {
	case Counter:
		return d.name + "_total"
	case Histogram:
		return d.name + "_seconds"
	}
	return d.name
}

var (
	brief  = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	usual  = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	long   = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
	events = []string{"AlarmStatusChangedEvent", "other"}

	planResults = []string{"full", "short", "nobody"}
)

// definitions lists every metric but those of the Go runtime and the process.
func definitions() []definition {
	return slices.Concat(ours(), temporals())
}

func ours() []definition {
	both, worker, receiver := []Part{Worker, Receiver}, []Part{Worker}, []Part{Receiver}
	return []definition{
		{"preemption_build_info", Gauge, []string{"version", "commit", "go"}, "Always 1; the labels say which build this is.", both, nil, nil},
		{
			"preemption_stalled_workflows", Gauge,
			[]string{"type"},
			"Workflows that make no progress, or that Temporal itself ended within 30 minutes, by the type that should run there. Checked every 20 seconds; all workers check the same workflows.", worker, nil, nil,
		},
		{
			"preemption_probe", Histogram, nil,
			"Time of the probe that work gets done: a workflow with an activity, and an answer of the ledger. Once a minute; up to 15 seconds if it fails.", worker, nil, usual,
		},
		{
			"preemption_watch_events", Counter,
			[]string{"type", "result"},
			"Events of vCenter that the watch gave to the rules: sent, ignored, refused (a rule matches it but can never act on it), unavailable (Temporal did not take it; it is sent again), backlog (too many events wait at its intake), set_aside (it could not be handed over although others could; it is tried again).",
			worker,
			[][]string{{"AlarmStatusChangedEvent"}, {"sent", "ignored", "refused", "unavailable", "backlog", "set_aside"}},
			nil,
		},
		{
			"preemption_watch_event_lag", Histogram, nil,
			"Time from an event, by vCenter's clock, until Temporal had the resulting signal.", worker, nil, long,
		},
		{
			"preemption_watch_last_look_timestamp_seconds", Gauge, nil,
			"When the watch had last handled all events of vCenter. Use the highest value of all workers, because only one of them watches.", worker, nil, nil,
		},
		{
			"preemption_rounds", Counter,
			[]string{"state"},
			"Rounds that have ended, by their final state.", worker,
			[][]string{{"completed", "partial", "failed", "empty", "withdrawn", "observed", "planned", "rehearsed", "held"}},
			nil,
		},
		{
			"preemption_rejections", Counter,
			[]string{"by", "reason"},
			"Requests and alarm changes that an intake rejected, by origin (a request without an origin counts as an alarm's) and reason: another_vcenter (its event is of another vCenter), refused (a limit, policy or value that this worker does not accept), unreadable.",
			worker,
			[][]string{{"alarm", "person"}, {"another_vcenter", "refused", "unreadable"}},
			nil,
		},
		{
			"preemption_evictions", Counter,
			[]string{"action", "outcome"},
			"Targets of rounds by the action of the policy and the outcome. A guest that shuts down late counts as spared, and again as shut_down.", worker,
			[][]string{texts(action.All()), texts(action.Outcomes())},
			nil,
		},
		{
			"preemption_reclaim", Histogram,
			[]string{"outcome"},
			"Time from the start of a round until a VM of it was off and annotated: with notice, grace period and outages.", worker, nil, long,
		},
		{
			"preemption_plans", Counter,
			[]string{"policy", "result"},
			"Plans of rounds: full, short (all eligible VMs together do not cover the shortfall), nobody (no VM was chosen).", worker, nil, nil,
		},
		{"preemption_plan_candidates", Gauge, []string{"policy"}, "Tagged objects that the policy's last plan considered.", worker, nil, nil},
		{"preemption_plan_targets", Gauge, []string{"policy"}, "VMs that the policy's last plan chose.", worker, nil, nil},
		{"preemption_plan_shortfall_cpu_hertz", Gauge, []string{"policy"}, "CPU that the policy's last plan had to free; 0 without a target.", worker, nil, nil},
		{"preemption_plan_shortfall_memory_bytes", Gauge, []string{"policy"}, "Memory that the policy's last plan had to free; 0 without a target.", worker, nil, nil},
		{"preemption_plan_uncovered_cpu_hertz", Gauge, []string{"policy"}, "Of the CPU to be freed, what the policy's last plan does not cover.", worker, nil, nil},
		{"preemption_plan_uncovered_memory_bytes", Gauge, []string{"policy"}, "Of the memory to be freed, what the policy's last plan does not cover.", worker, nil, nil},
		{
			"preemption_spared", Counter,
			[]string{"reason"},
			"Candidates that a plan of a round spared, by reason; group_budget and scope_budget are those that a budget blocked.", worker,
			[][]string{{"group_budget", "scope_budget", "limit", "not_needed", "protected", "not_powered_on"}},
			nil,
		},
		{
			"preemption_vms_preempted", Gauge, nil,
			"VMs of this vCenter that are off or suspended and whose attribute says that we did it. Counted every 5 minutes, and soon after a change; all workers count the same VMs.", worker, nil, nil,
		},
		{
			"preemption_takeovers", Counter,
			[]string{"what"},
			"Workflows that another program had begun, or that ran under another type, and that the worker has ended and replaced: prototype (a run of PreemptVMsWorkflow), ledger.", worker,
			[][]string{{"prototype", "ledger"}},
			nil,
		},
		{
			"preemption_restores", Counter,
			[]string{"state"},
			"Restores that have ended, by their final state.", worker,
			[][]string{{"completed", "partial", "failed", "stopped", "refused", "observed", "planned"}},
			nil,
		},
		{
			"preemption_restored_vms", Counter,
			[]string{"outcome"},
			"VMs that a restore tried to power on, by the result of each attempt.", worker,
			[][]string{{"restored", "left", "failed"}},
			nil,
		},
		{
			"preemption_remediations", Counter,
			[]string{"kind", "state"},
			"Remediations by the state they reached.", worker,
			[][]string{{"resize", "reconfigure", "move"}, {"Planned", "Applied", "Deferred", "Skipped", "Infeasible", "AtLimit", "Failed"}},
			nil,
		},
		{
			"preemption_vcenter_calls", Counter,
			[]string{"method", "code"},
			"Calls to vCenter, each attempt: of SOAP by method, of REST by verb and path; code is OK, SessionLost, Cancelled, TooFast, or the kind of error.", worker, nil, nil,
		},
		{"preemption_vcenter_call", Histogram, []string{"method"}, "Time of a call to vCenter, without the wait for a permit.", worker, nil, usual},
		{
			"preemption_vcenter_session_renewals", Counter,
			[]string{"api"},
			"Logins to vCenter that replaced a lost session.", worker,
			[][]string{{"soap", "rest"}},
			nil,
		},
		{
			"preemption_receiver_events", Counter,
			[]string{"type", "result"},
			"Requests with an event, by its type (other: no rule is on it, or it could not be read) and by what became of them.", receiver,
			[][]string{events, {"sent", "ignored", "malformed", "refused", "unauthorized", "aborted", "too_large", "unsupported", "saturated", "unavailable", "backlog"}},
			nil,
		},
		{"preemption_receiver", Histogram, nil, "Time from a request's header to its answer.", receiver, nil, brief},
		{"preemption_receiver_in_flight", Gauge, nil, "Requests with an event that are not answered yet.", receiver, nil, nil},
	}
}

// texts are the values of a closed set, as labels have them.
func texts[S ~string](values []S) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}
