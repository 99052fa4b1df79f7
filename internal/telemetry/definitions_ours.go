package telemetry

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// The processes that have a metric.
var worker, receiver = []Part{Worker}, []Part{Receiver}

// ofHealth lists the metrics of the build and of progress.
func ofHealth() []definition {
	return []definition{
		{"preemption_build_info", Gauge, []string{"version", "commit", "go"}, "Always 1; the labels say which build this is.", []Part{Worker, Receiver}, nil, nil},
		{
			"preemption_stalled_workflows", Gauge,
			[]string{"type"},
			"Workflows that make no progress, or that Temporal itself ended within 30 minutes, by the type that should work there. Looked for every 20 seconds; all workers look at the same workflows.", worker, nil, nil,
		},
		{
			"preemption_trace_spans", Counter,
			[]string{"result"},
			"Spans that were given to the collector of traces: sent, or failed because it did not take them. Both stay 0 where tracing is off.",
			[]Part{Worker, Receiver},
			[][]string{{"sent", "failed"}},
			nil,
		},
		{"preemption_paused", Gauge, nil, "Pauses of persons that hold: of everything, of clusters, of alarms. Looked for every 20 seconds; all workers look at the same ledger.", worker, nil, nil},
		{"preemption_spared_vms", Gauge, nil, "VMs that persons spare for a time. Looked for like the pauses.", worker, nil, nil},
		{
			"preemption_probe", Histogram, nil,
			"Time of the probe that work gets done: a workflow with an activity, and an answer of the ledger. Once a minute; up to 15 seconds where it fails.", worker, nil, usual,
		},
	}
}

// ofWatch lists the metrics of the watch.
func ofWatch() []definition {
	return []definition{
		{
			"preemption_watch_events", Counter,
			[]string{"type", "result"},
			"Events of vCenter that the watch gave to the rules: sent, ignored, refused (a rule is on it and can never act upon it), unavailable (Temporal did not take it; it is given again), backlog (too much waits at its intake), set_aside (it could not be handed over although others could; it is given again by itself).",
			worker,
			[][]string{{"AlarmStatusChangedEvent"}, {"sent", "ignored", "refused", "unavailable", "backlog", "set_aside"}},
			nil,
		},
		{
			"preemption_watch_event_lag", Histogram, nil,
			"Time from an event, by vCenter's clock, until Temporal had what the rules made of it.", worker, nil, long,
		},
		{
			"preemption_watch_last_look_timestamp_seconds", Gauge, nil,
			"When the watch had last dealt with all that vCenter knew. The highest of all workers counts: one of them watches.", worker, nil, nil,
		},
	}
}

// ofRounds lists the metrics of rounds: how they end and what becomes of their targets.
func ofRounds() []definition {
	return []definition{
		{
			"preemption_rounds", Counter,
			[]string{"state"},
			"Rounds that came to their end, by the state they ended in.", worker,
			[][]string{texts(preemptapi.FinalRoundStates())},
			nil,
		},
		{
			"preemption_rooms", Counter,
			[]string{"state"},
			"Requests for room on a host by what became of them: running (the VM was powered on), made (the room is held), observed, refused (nobody went), failed (VMs went in vain and come back).", worker,
			[][]string{texts(preemptapi.FinalRoomStates())},
			nil,
		},
		{
			"preemption_rejections", Counter,
			[]string{"by", "reason"},
			"Requests and alarm changes that an intake did not take, by who asked (a request without its origin counts as an alarm's) and why: another_vcenter (its event is of another vCenter), refused (a limit, policy or value that this worker does not take), unreadable.",
			worker,
			[][]string{{"alarm", "person"}, {"another_vcenter", "refused", "unreadable"}},
			nil,
		},
		{
			"preemption_evictions", Counter,
			[]string{"action", "outcome"},
			"Targets of rounds by what the policy asked for and what became of them. One that goes off late counts as spared, and again as shut_down.", worker,
			[][]string{texts(action.All()), texts(action.Outcomes())},
			nil,
		},
		{
			"preemption_reclaimed_cpu_hertz", Counter,
			[]string{"action"},
			"CPU that VMs used when they were chosen and that rounds freed, by what the policy asked for; of a throttled VM, what its limit takes.", worker,
			[][]string{texts(action.All())},
			nil,
		},
		{
			"preemption_reclaimed_memory_bytes", Counter,
			[]string{"action"},
			"Memory that VMs used when they were chosen and that rounds freed, by what the policy asked for.", worker,
			[][]string{texts(action.All())},
			nil,
		},
		{
			"preemption_reclaim", Histogram,
			[]string{"outcome"},
			"Time from the start of a round until a VM of it was off and annotated: with notice, grace period and outages.", worker, nil, long,
		},
	}
}

// ofPlans lists the metrics of the plans of rounds.
func ofPlans() []definition {
	return []definition{
		{
			"preemption_plans", Counter,
			[]string{"policy", "result"},
			"Plans of rounds: full, short (all eligible VMs together do not cover the shortfall), nobody (no VM was chosen).", worker, nil, nil,
		},
		{"preemption_plan_candidates", Gauge, []string{"policy"}, "Tagged objects that the policy's last plan looked at.", worker, nil, nil},
		{"preemption_plan_targets", Gauge, []string{"policy"}, "VMs that the policy's last plan chose.", worker, nil, nil},
		{"preemption_plan_shortfall_cpu_hertz", Gauge, []string{"policy"}, "CPU that the policy's last plan was to free; 0 without a target.", worker, nil, nil},
		{"preemption_plan_shortfall_memory_bytes", Gauge, []string{"policy"}, "Memory that the policy's last plan was to free; 0 without a target.", worker, nil, nil},
		{"preemption_plan_uncovered_cpu_hertz", Gauge, []string{"policy"}, "Of the CPU to be freed, what the policy's last plan does not cover.", worker, nil, nil},
		{"preemption_plan_uncovered_memory_bytes", Gauge, []string{"policy"}, "Of the memory to be freed, what the policy's last plan does not cover.", worker, nil, nil},
		{
			"preemption_spared", Counter,
			[]string{"reason"},
			"Candidates that a plan of a round spared, by reason; group_budget and scope_budget are those that a budget blocked.", worker,
			[][]string{texts([]policy.Reason{policy.GroupBudget, policy.ScopeBudget, policy.OverLimit, policy.NotNeeded, policy.Protected, policy.NotPoweredOn})},
			nil,
		},
	}
}

// ofVMs lists the metrics of preempted VMs, takeovers, restores and remediations.
func ofVMs() []definition {
	return []definition{
		{
			"preemption_vms_preempted", Gauge, nil,
			"VMs of this vCenter that are off or suspended and whose attribute says that we did that. Counted every 5 minutes, and soon after a change; all workers count the same VMs.", worker, nil, nil,
		},
		{
			"preemption_takeovers", Counter,
			[]string{"what"},
			"Workflows that another program had begun, or that ran under another type, and that the worker ended and went on in the place of: prototype (a run of PreemptVMsWorkflow), ledger.", worker,
			[][]string{{"prototype", "ledger"}},
			nil,
		},
		{
			"preemption_notifications", Counter,
			[]string{"channel", "outcome"},
			"Attempts to tell people something, by channel: sent, retried (the attempt failed, and another follows), refused (another attempt would fail as well), given_up (no attempt succeeded within 15 minutes; it counts besides the attempts).",
			worker, nil, nil,
		},
		{
			"preemption_restores", Counter,
			[]string{"state"},
			"Restores that came to an end, by the state they ended in.", worker,
			[][]string{texts(preemptapi.FinalRestoreStates())},
			nil,
		},
		{
			"preemption_restored_vms", Counter,
			[]string{"outcome"},
			"VMs that a restore tried to bring back, by what became of them; at each attempt.", worker,
			[][]string{texts(preemptapi.RestoreTried())},
			nil,
		},
		{
			"preemption_remediations", Counter,
			[]string{"kind", "state"},
			"Remediations by the state they reached.", worker,
			[][]string{{"resize", "reconfigure", "move"}, texts(remediateapi.FinalStates())},
			nil,
		},
	}
}

// ofVCenter lists the metrics of the calls to vCenter.
func ofVCenter() []definition {
	return []definition{
		{
			"preemption_vcenter_calls", Counter,
			[]string{"method", "code"},
			"Calls to vCenter, each attempt: of SOAP by method, of REST by verb and path; code is OK, SessionLost, Cancelled, TooFast, or the kind of error.", worker, nil, nil,
		},
		{"preemption_vcenter_call", Histogram, []string{"method"}, "Time of a call to vCenter, without the wait for a permit.", worker, nil, usual},
		{"preemption_vcenter_call_limit", Gauge, nil, "Calls to vCenter that may be made at once: limits.vcenterCalls, or fewer while vCenter is overloaded.", worker, nil, nil},
		{
			"preemption_vcenter_session_renewals", Counter,
			[]string{"api"},
			"Logins to vCenter that replaced a lost session.", worker,
			[][]string{{"soap", "rest"}},
			nil,
		},
	}
}

// ofReceiver lists the metrics of the receiver.
func ofReceiver() []definition {
	return []definition{
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
