package standalone

import (
	"errors"
	"fmt"
	"testing"
)

func TestTheVerdictIsOneLine(t *testing.T) {
	shown := score{rounds: 2, rooms: 1, preempted: 7, restored: 7, returns: true}
	for want, got := range map[string]string{
		"verdict: PASS: 3 preemptions (2 for an alarm, 1 for room), 7 VMs preempted, 7 of them restored, every VM as reported": verdict(shown, nil, false),
		"verdict: PASS: 1 preemption, 4 VMs preempted, every VM as reported":                                                   verdict(score{rounds: 1, preempted: 4}, nil, false),
		"verdict: PASS: nothing was to be preempted":                                                                           verdict(score{}, nil, false),
		"verdict: FAIL: vCenter contradicts the reported result in 2 points; the lines marked mismatch say which VMs": verdict(
			shown, fmt.Errorf("%w in 2 points", errMismatch), false),
		"verdict: FAIL: one; two; the lines above say how far it came; run it again with DEBUG=true to see why": verdict(
			score{}, errors.Join(errors.New("one"), errors.New("two")), false),
		"verdict: FAIL: it was interrupted before the scenario had ended; run it again": verdict(shown, errors.New("context canceled"), true),
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
