package telemetry

import "slices"

// The labels of the metrics of Temporal's SDK.
var (
	byWorkflow  = []string{"workflow_type"}
	byTaskQueue = []string{"task_queue"}
	byActivity  = []string{"activity_type"}
	byWorker    = []string{"worker_type", "task_queue"}
	byPoller    = []string{"poller_type", "task_queue"}
	byOperation = []string{"operation"}
)

// temporals are the metrics of Temporal's SDK, under the names that it gives them. Its tags namespace and client_name
// are left out: a process has one of each.
func temporals() []definition {
	return slices.Concat(ofWorkflows(), ofActivities(), ofPolling(),
		ofCalls("request", "calls to Temporal"), ofCalls("long_request", "long polls of Temporal"))
}

// ofSDK is a metric of Temporal's SDK in the worker.
func ofSDK(kind Kind, name string, labels []string, help string) definition {
	d := definition{name: "temporal_" + name, kind: kind, labels: labels, help: help, parts: worker}
	if kind == Histogram {
		d.buckets = usual
	}
	return d
}

// ofWorkflows lists the metrics of workflows and their tasks.
func ofWorkflows() []definition {
	return []definition{
		ofSDK(Counter, "workflow_completed", byWorkflow, "Workflows that completed."),
		ofSDK(Counter, "workflow_canceled", byWorkflow, "Workflows that were cancelled."),
		ofSDK(Counter, "workflow_failed", byWorkflow, "Workflows that failed."),
		ofSDK(Counter, "workflow_continue_as_new", byWorkflow, "Workflows that continued as new."),
		ofSDK(Histogram, "workflow_endtoend_latency", byWorkflow, "Time from a workflow's start to its end."),
		ofSDK(Histogram, "workflow_task_replay_latency", byWorkflow, "Time of the replay before a workflow task."),
		ofSDK(Histogram, "workflow_task_schedule_to_start_latency", byTaskQueue, "Time that workflow tasks waited for a worker."),
		ofSDK(Histogram, "workflow_task_execution_latency", byWorkflow, "Time of a workflow task."),
		ofSDK(Counter, "workflow_task_execution_failed", []string{"workflow_type", "failure_reason"}, "Workflow tasks that failed."),
		ofSDK(Counter, "workflow_task_no_completion", byWorkflow, "Workflow tasks that ended without a completion."),
		ofSDK(Counter, "workflow_task_queue_poll_empty", byTaskQueue, "Polls for workflow tasks that brought none."),
		ofSDK(Counter, "workflow_task_queue_poll_succeed", byTaskQueue, "Polls that brought a workflow task."),
	}
}

// ofActivities lists the metrics of activities, local ones included.
func ofActivities() []definition {
	return []definition{
		ofSDK(Counter, "activity_poll_no_task", byTaskQueue, "Polls for activities that brought none."),
		ofSDK(Histogram, "activity_schedule_to_start_latency", byTaskQueue, "Time that activities waited for a worker."),
		ofSDK(Histogram, "activity_execution_latency", byActivity, "Time of an attempt of an activity."),
		ofSDK(Histogram, "activity_succeed_endtoend_latency", byActivity, "Time from scheduling an activity to its success."),
		ofSDK(Counter, "activity_execution_failed", byActivity, "Attempts of activities that failed."),
		ofSDK(Counter, "activity_task_error", byActivity, "Activity tasks that could not be dealt with."),
		ofSDK(Counter, "unregistered_activity_invocation", nil, "Activities that the worker does not know."),
		ofSDK(Counter, "local_activity_total", byActivity, "Local activities."),
		ofSDK(Counter, "local_activity_execution_cancelled", byActivity, "Local activities that were cancelled."),
		ofSDK(Counter, "local_activity_execution_failed", byActivity, "Attempts of local activities that failed."),
		ofSDK(Counter, "local_activity_error", byActivity, "Local activities that could not be dealt with."),
		ofSDK(Histogram, "local_activity_execution_latency", byActivity, "Time of an attempt of a local activity."),
		ofSDK(Histogram, "local_activity_succeed_endtoend_latency", byActivity, "Time from scheduling a local activity to its success."),
	}
}

// ofPolling lists the metrics of workers, their polls and their cache.
func ofPolling() []definition {
	return []definition{
		ofSDK(Counter, "corrupted_signals", byWorkflow, "Signals that could not be decoded."),
		ofSDK(Counter, "worker_start", byWorker, "Starts of workers."),
		ofSDK(Gauge, "worker_task_slots_available", byWorker, "Free places for tasks."),
		ofSDK(Gauge, "worker_task_slots_used", byWorker, "Places that tasks take."),
		ofSDK(Counter, "poller_start", byPoller, "Starts of pollers."),
		ofSDK(Gauge, "num_pollers", byPoller, "Pollers that wait for tasks."),
		ofSDK(Counter, "sticky_cache_hit", nil, "Workflow tasks whose workflow was in the cache."),
		ofSDK(Counter, "sticky_cache_miss", nil, "Workflow tasks whose workflow was no longer in the cache."),
		ofSDK(Counter, "sticky_cache_total_forced_eviction", nil, "Workflows that made room in the cache."),
		ofSDK(Gauge, "sticky_cache_size", nil, "Workflows in the cache."),
		ofSDK(Gauge, "workflow_active_thread_count", nil, "Threads of cached workflows."),
	}
}

// ofCalls lists the metrics of calls to Temporal, which the receiver makes too.
func ofCalls(name, words string) []definition {
	all := []definition{
		ofSDK(Counter, name, byOperation, "Number of "+words+"."),
		ofSDK(Counter, name+"_failure", []string{"operation", "status_code"}, "Number of "+words+" that failed."),
		ofSDK(Counter, name+"_resource_exhausted", []string{"operation", "cause"}, "Number of "+words+" that a limit of the server refused."),
		ofSDK(Histogram, name+"_latency", byOperation, "Time of "+words+"."),
	}
	for i := range all {
		all[i].parts = []Part{Worker, Receiver}
	}
	return all
}
