package telemetry

// temporals are the metrics of Temporal's SDK, under the names that it gives them. Its tags namespace and client_name
// are left out: a process has one of each.
func temporals() []definition {
	var all []definition
	add := func(kind Kind, name string, labels []string, help string) {
		d := definition{name: "temporal_" + name, kind: kind, labels: labels, help: help, parts: []Part{Worker}}
		if kind == Histogram {
			d.buckets = usual
		}
		all = append(all, d)
	}
	none := []string{}
	workflow, task, activity := []string{"workflow_type"}, []string{"task_queue"}, []string{"activity_type"}
	worker, poller := []string{"worker_type", "task_queue"}, []string{"poller_type", "task_queue"}
	operation, failed := []string{"operation"}, []string{"operation", "status_code"}

	add(Counter, "workflow_completed", workflow, "Workflows that completed.")
	add(Counter, "workflow_canceled", workflow, "Workflows that were cancelled.")
	add(Counter, "workflow_failed", workflow, "Workflows that failed.")
	add(Counter, "workflow_continue_as_new", workflow, "Workflows that continued as new.")
	add(Histogram, "workflow_endtoend_latency", workflow, "Time from a workflow's start to its end.")
	add(Histogram, "workflow_task_replay_latency", workflow, "Time of the replay before a workflow task.")
	add(Histogram, "workflow_task_schedule_to_start_latency", task, "Time that workflow tasks waited for a worker.")
	add(Histogram, "workflow_task_execution_latency", workflow, "Time of a workflow task.")
	add(Counter, "workflow_task_execution_failed", []string{"workflow_type", "failure_reason"}, "Workflow tasks that failed.")
	add(Counter, "workflow_task_no_completion", workflow, "Workflow tasks that ended without a completion.")
	add(Counter, "workflow_task_queue_poll_empty", task, "Polls for workflow tasks that brought none.")
	add(Counter, "workflow_task_queue_poll_succeed", task, "Polls that brought a workflow task.")
	add(Counter, "activity_poll_no_task", task, "Polls for activities that brought none.")
	add(Histogram, "activity_schedule_to_start_latency", task, "Time that activities waited for a worker.")
	add(Histogram, "activity_execution_latency", activity, "Time of an attempt of an activity.")
	add(Histogram, "activity_succeed_endtoend_latency", activity, "Time from scheduling an activity to its success.")
	add(Counter, "activity_execution_failed", activity, "Attempts of activities that failed.")
	add(Counter, "activity_task_error", activity, "Activity tasks that could not be dealt with.")
	add(Counter, "unregistered_activity_invocation", none, "Activities that the worker does not know.")
	add(Counter, "local_activity_total", activity, "Local activities.")
	add(Counter, "local_activity_execution_cancelled", activity, "Local activities that were cancelled.")
	add(Counter, "local_activity_execution_failed", activity, "Attempts of local activities that failed.")
	add(Counter, "local_activity_error", activity, "Local activities that could not be dealt with.")
	add(Histogram, "local_activity_execution_latency", activity, "Time of an attempt of a local activity.")
	add(Histogram, "local_activity_succeed_endtoend_latency", activity, "Time from scheduling a local activity to its success.")
	add(Counter, "corrupted_signals", workflow, "Signals that could not be decoded.")
	add(Counter, "worker_start", worker, "Starts of workers.")
	add(Gauge, "worker_task_slots_available", worker, "Free places for tasks.")
	add(Gauge, "worker_task_slots_used", worker, "Places that tasks take.")
	add(Counter, "poller_start", poller, "Starts of pollers.")
	add(Gauge, "num_pollers", poller, "Pollers that wait for tasks.")
	add(Counter, "sticky_cache_hit", none, "Workflow tasks whose workflow was in the cache.")
	add(Counter, "sticky_cache_miss", none, "Workflow tasks whose workflow was no longer in the cache.")
	add(Counter, "sticky_cache_total_forced_eviction", none, "Workflows that made room in the cache.")
	add(Gauge, "sticky_cache_size", none, "Workflows in the cache.")
	add(Gauge, "workflow_active_thread_count", none, "Threads of cached workflows.")
	for _, kind := range []struct{ name, words string }{{"request", "calls to Temporal"}, {"long_request", "long polls of Temporal"}} {
		at := len(all)
		add(Counter, kind.name, operation, "Number of "+kind.words+".")
		add(Counter, kind.name+"_failure", failed, "Number of "+kind.words+" that failed.")
		add(Counter, kind.name+"_resource_exhausted", []string{"operation", "cause"}, "Number of "+kind.words+" that a limit of the server refused.")
		add(Histogram, kind.name+"_latency", operation, "Time of "+kind.words+".")
		for i := range all[at:] {
			all[at+i].parts = []Part{Worker, Receiver}
		}
	}
	return all
}
