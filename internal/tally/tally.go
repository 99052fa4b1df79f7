// Package tally counts what workflows do, each thing once. The SDK's own counters stand still while a history is
// replayed, but a workflow task that failed, or took too long, is not replayed: it is worked on again, and would count
// again.
package tally

import (
	"container/list"
	"strings"
	"sync"

	"go.temporal.io/sdk/workflow"
)

// maxRuns bounds of how many runs a process remembers what it counted; those that counted last are kept.
const maxRuns = 10_000

// counted is what this process has counted.
var counted = newMemory(maxRuns)

type ordinals struct{}

// With returns a context for the whole run of a workflow; what is counted with it, or with one made from it, counts once.
func With(ctx workflow.Context) workflow.Context {
	return workflow.WithValue(ctx, ordinals{}, map[string]int{})
}

// Add counts one by the handler of Temporal's SDK. Where this process has counted it before, in an attempt at the same
// workflow task, it does not count again: what is the n-th of its name and tags in its run is the n-th in each attempt.
func Add(ctx workflow.Context, name string, tags map[string]string) { AddSome(ctx, name, tags, 1) }

// AddSome is Add of an amount, such as the capacity that a VM freed.
func AddSome(ctx workflow.Context, name string, tags map[string]string, amount int64) {
	if seen, ok := ctx.Value(ordinals{}).(map[string]int); ok {
		key := keyOf(name, tags)
		seen[key]++
		run := workflow.GetInfo(ctx).WorkflowExecution.RunID
		// What it answers decides about a metric alone, never about what the workflow does.
		if !counted.reach(run, key, seen[key]) { //workflowcheck:ignore
			return
		}
	}
	workflow.GetMetricsHandler(ctx).WithTags(tags).Counter(name).Inc(amount)
}

func keyOf(name string, tags map[string]string) string {
	var b strings.Builder
	b.WriteString(name)
	for _, k := range workflow.DeterministicKeys(tags) {
		b.WriteString("\x00" + k + "\x00" + tags[k])
	}
	return b.String()
}

// memory remembers of the last runs how far each count has come.
type memory struct {
	mu   sync.Mutex
	max  int
	runs map[string]*list.Element
	last *list.List // of *runCounts; the one that counted last is at the front
}

type runCounts struct {
	run string
	n   map[string]int
}

func newMemory(most int) *memory {
	return &memory{max: most, runs: map[string]*list.Element{}, last: list.New()}
}

// reach notes that a count of a run has come to n, and reports whether that is further than before.
func (m *memory) reach(run, key string, n int) (further bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.runs[run]
	if ok {
		m.last.MoveToFront(e)
	} else {
		e = m.last.PushFront(&runCounts{run: run, n: map[string]int{}})
		m.runs[run] = e
	}
	if m.last.Len() > m.max {
		old := m.last.Back()
		delete(m.runs, m.last.Remove(old).(*runCounts).run)
	}
	counts := e.Value.(*runCounts)
	if n <= counts.n[key] {
		return false
	}
	counts.n[key] = n
	return true
}
