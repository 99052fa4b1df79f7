package embedded

import (
	"time"

	"go.temporal.io/server/common/dynamicconfig"
)

// unlimited is a rate per second that one process on one machine does not reach.
const unlimited = 100_000

// maxUpdates is how many updates of one workflow may be under way.
const maxUpdates = 1000

// tuning sets the server up for one process: no rate limits against its only user, no partitions to forward between, and
// no waiting between the hops of a task. rollAfter is the history length at which continue-as-new is suggested; 0: the
// server's default.
func tuning(rollAfter int) dynamicconfig.StaticClient {
	settings := dynamicconfig.StaticClient{
		// With the default of 20 polls per second and shard, each hop through a queue may wait 50 ms.
		dynamicconfig.TransferProcessorMaxPollRPS.Key():   1000,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():      1000,
		dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): 1000,
		dynamicconfig.OutboundProcessorMaxPollRPS.Key():   1000,

		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,

		// The server now and then forgets to wake a client that waits for a result (seen with 4 shards, about once in a
		// thousand waits); it answers when the wait expires, by default after 20 s, and the client asks again at once.
		dynamicconfig.HistoryLongPollExpirationInterval.Key(): 2 * time.Second,

		dynamicconfig.EnableEagerWorkflowStart.Key():              true,
		dynamicconfig.EnableActivityEagerExecution.Key():          true,
		dynamicconfig.FrontendEnableUpdateWorkflowExecution.Key(): true,

		dynamicconfig.FrontendRPS.Key():                                  unlimited,
		dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():           unlimited,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): unlimited,
		dynamicconfig.HistoryRPS.Key():                                   unlimited,
		dynamicconfig.MatchingRPS.Key():                                  unlimited,
		dynamicconfig.FrontendPersistenceMaxQPS.Key():                    unlimited,
		dynamicconfig.HistoryPersistenceMaxQPS.Key():                     unlimited,
		dynamicconfig.MatchingPersistenceMaxQPS.Key():                    unlimited,
		dynamicconfig.WorkerPersistenceMaxQPS.Key():                      unlimited,

		// Each round asks the ledger by updates, of which the server admits 10 at a time by default: with thirty alarms at
		// once the rest waited in retries, until their activities ran out of time.
		dynamicconfig.WorkflowExecutionMaxInFlightUpdates.Key(): maxUpdates,

		// There is nobody else who must first learn that this server goes away.
		dynamicconfig.MatchingShutdownDrainDuration.Key(): time.Duration(0),
		dynamicconfig.HistoryShutdownDrainDuration.Key():  time.Duration(0),
	}
	if rollAfter > 0 {
		settings[dynamicconfig.HistoryCountSuggestContinueAsNew.Key()] = rollAfter
	}
	return settings
}
