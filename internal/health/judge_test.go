package health

import (
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/failure/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
)

func TestAMomentsLoadIsNoStall(t *testing.T) {
	now := time.Now()
	l := &Looker{Limits: DefaultLimits(), Now: func() time.Time { return now }}
	ago := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-d)) }
	scheduled, started := enumspb.PENDING_WORKFLOW_TASK_STATE_SCHEDULED, enumspb.PENDING_WORKFLOW_TASK_STATE_STARTED
	for name, c := range map[string]struct {
		state   enumspb.PendingWorkflowTaskState
		attempt int32
		age     time.Duration
		polled  bool
		want    Kind
	}{
		"a task that waits for 30 seconds":              {scheduled, 1, 30 * time.Second, true, ""},
		"a task that waits for a minute":                {scheduled, 1, time.Minute, true, NotTaken},
		"a task that waits, with no worker":             {scheduled, 1, time.Hour, false, ""},
		"a task whose worker was killed":                {started, 2, 12 * time.Second, true, ""},
		"a task that failed twice":                      {started, 3, time.Second, true, TaskFails},
		"a task that is worked at for a minute":         {started, 1, time.Minute, true, ""},
		"a task that local activities keep for minutes": {started, 1, 2 * time.Minute, true, TaskHangs},
	} {
		var s Stall
		task := &workflowpb.PendingWorkflowTaskInfo{State: c.state, Attempt: c.attempt, ScheduledTime: ago(c.age), OriginalScheduledTime: ago(c.age)}
		if stalled := l.judgeTask(&s, task, func() bool { return c.polled }); stalled != (c.want != "") || s.Kind != c.want {
			t.Errorf("%s: %q, want %q", name, s.Kind, c.want)
		}
	}
}

func TestWaitingForVCenterIsNoStallAndIsTold(t *testing.T) {
	l := &Looker{Limits: DefaultLimits()}
	for kind, want := range map[string]struct{ stalled, waits bool }{
		"Unavailable": {false, true}, "InvalidLogin": {false, true}, "Certificate": {false, true}, "Credentials": {false, true},
		"ReservationFailed": {true, false},
	} {
		p := &workflowpb.PendingActivityInfo{
			Attempt: 40, State: enumspb.PENDING_ACTIVITY_STATE_STARTED,
			LastFailure: &failure.Failure{Message: "no", FailureInfo: &failure.Failure_ApplicationFailureInfo{
				ApplicationFailureInfo: &failure.ApplicationFailureInfo{Type: kind},
			}},
		}
		var s Stall
		if stalled, waits := l.judgeStep(&s, p, func() bool { return true }); stalled != want.stalled || waits != want.waits {
			t.Errorf("%s: stalled %v, waits %v", kind, stalled, waits)
		}
	}
}

func TestAnAlarmThatTheWatchCannotHandOverIsTrouble(t *testing.T) {
	now := time.Now()
	l := &Looker{Limits: DefaultLimits(), Now: func() time.Time { return now }}
	for age, want := range map[time.Duration]bool{10 * time.Second: false, time.Minute: true} {
		c := watchapi.Checkpoint{AsideCount: 3, Aside: []watchapi.Aside{
			{Event: "cpu on host-1", Reason: "its intake is always late", Tries: 4, Since: now.Add(-age)}, {Event: "mem on host-2", Since: now},
		}}
		beat, err := converter.GetDefaultDataConverter().ToPayloads(c)
		if err != nil {
			t.Fatal(err)
		}
		var s Stall
		stalled, _ := l.judgeWatch(&s, &workflowpb.PendingActivityInfo{HeartbeatDetails: beat})
		if stalled != want || want && (s.Kind != Trouble || !strings.Contains(s.Cause, "cpu on host-1") || !strings.Contains(s.Cause, "always late")) {
			t.Errorf("after %s: stalled %v, %+v", age, stalled, s)
		}
	}
}

func TestACauseHoldsNoSecretAndFitsALine(t *testing.T) {
	got := bounded("post https://u:s3cret@host/x?token=abc \x1b[31m\u202e\n" + strings.Repeat("é", 1000))
	for _, bad := range []string{"s3cret", "abc", "\x1b", "\u202e", "\n"} {
		if strings.Contains(got, bad) {
			t.Errorf("%q is in %q", bad, got)
		}
	}
	if len(got) > maxCause+3 {
		t.Errorf("it has %d bytes", len(got))
	}
}
