package round

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// wordy is a round whose every VM has the longest name that vCenter takes, and a lot to say.
func wordy(n int) (plan PlanResult, result preemptapi.RoundResult) {
	words := strings.Repeat(`a long "explanation" <of> what went wrong & why; `, 20)
	for i := range n {
		t := policy.Target{
			Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d", 1000000+i)}, Name: strings.Repeat("ä", 80),
			InstanceUUID: "5016d3e5-6e0b-4c3f-8d5c-000000000000", CPUMHz: 120000, MemoryMB: 4096000, Host: vsphere.Ref{Type: vsphere.TypeHost, Value: "host-12345"},
			Rank: i, Priority: 100, Why: words,
		}
		plan.Targets = append(plan.Targets, t)
		o := outcome(ActTarget{Target: t}, action.PoweredOff)
		o.OffAt, o.Forced, o.Annotated, o.Reason, o.AnnotationError, o.Notice = time.Now(), true, true, words, words, words
		result.Targets = append(result.Targets, o)
		result.Changes = append(result.Changes, words[:100])
	}
	return plan, result
}

func size(t *testing.T, v any) int {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return len(b)
}

func TestWhatAVeryLargeRoundHandsOverFitsAndNamesEveryVM(t *testing.T) {
	plan, result := wordy(5000)
	for what, v := range map[string]any{"the plan": Compact(plan), "the result": fitted(result), "what the intake keeps": Brief(result)} {
		n := size(t, v)
		t.Logf("%s: %d bytes", what, n)
		if n > 2<<20*95/100 {
			t.Errorf("%s has %d bytes, of 2 MiB that Temporal takes", what, n)
		}
	}
	if len(Compact(plan).Targets) != 5000 || len(fitted(result).Targets) != 5000 || len(Brief(result).Preempted()) != 5000 {
		t.Error("a VM is missing")
	}
	if b := Brief(result); b.Count(action.PoweredOff) != 5000 || !b.Brief {
		t.Errorf("%d are counted", b.Count(action.PoweredOff))
	}
	if result.Targets[0].Why == "" || plan.Targets[0].Why == "" {
		t.Error("what was handed in was changed")
	}
}

func TestAnOrdinaryRoundIsHandedOverAsItIs(t *testing.T) {
	plan, result := wordy(100)
	if size(t, Compact(plan)) != size(t, plan) || size(t, fitted(result)) != size(t, result) || size(t, Brief(result)) != size(t, result) {
		t.Error("something was left out")
	}
}
