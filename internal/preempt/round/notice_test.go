package round

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

// notice has every guest told so long before.
func (r *roundRun) notice(d time.Duration) {
	c := &r.in.Demand.Policy.Criticality
	c.High.Notice, c.Medium.Notice, c.Low.Notice = clock.Duration(d), clock.Duration(d), clock.Duration(d)
}

// states are those of the notices that guests were given; "" is a notice that was cleared.
func (r *roundRun) states() (list []string) {
	for _, n := range r.notices {
		state := ""
		if n.Notice != nil {
			state = n.Notice.State
		}
		list = append(list, state)
	}
	return list
}

func TestGuestsAreToldBeforeTheyArePoweredOff(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.notice(2 * time.Minute)
	res := r.run()
	if r.poweredOff() != 2 || r.Now().Sub(r.began) < 2*time.Minute || res.Targets[0].Notice != "given" {
		t.Errorf("%+v", res)
	}
	if got := r.states(); !slices.Equal(got, []string{noticePending, ""}) || r.notices[0].Notice.Action != action.PowerOff {
		t.Errorf("the notices were %q", got)
	}
	if len(r.replies) != 2 || r.replies[0].Type != preemption.NoticeEventType {
		t.Errorf("replies %+v", r.replies)
	}
}

func TestAReadyGuestIsNotWaitedForAndOneExtensionIsGranted(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.notice(2 * time.Minute)
	r.answers = []GuestReply{{Ref: vcentertest.Ref(1), Ready: true}, {Ref: vcentertest.Ref(2), Extend: clock.Duration(time.Hour)}}
	res := r.run()
	if len(r.evictions) != 2 || len(r.evictions[0].Targets) != 1 || r.evictions[0].Targets[0].Ref != vcentertest.Ref(1) {
		t.Fatalf("%+v", r.evictions)
	}
	if took := r.Now().Sub(r.began); took < 4*time.Minute || took > 5*time.Minute {
		t.Errorf("an extension is as long as the notice: it took %s", took)
	}
	if !slices.Contains(r.states(), noticeExtended) || res.Targets[0].Notice != "acknowledged" || !strings.HasPrefix(res.Targets[1].Notice, "extended") {
		t.Errorf("%q: %+v", r.states(), res.Targets)
	}
}

func TestGuestsOfAWithdrawnRoundAreToldThatNothingHappens(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityHigh)
	r.notice(5 * time.Minute)
	r.after(time.Minute, r.change(Change{Withdraw: true, Reason: "the alarm fell"}))
	res := r.run()
	if len(r.evictions) != 0 || res.State != preemptapi.RoundWithdrawn || !slices.Contains(r.states(), noticeWithdrawn) {
		t.Errorf("%q: %+v", r.states(), res)
	}
}

func TestARaiseShortensTheNotice(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityLow)
	r.notice(10 * time.Minute)
	r.in.Demand.Policy.Criticality.High.Notice = 0
	r.after(time.Minute, r.change(Change{Criticality: preemption.CriticalityHigh, Reason: "red"}))
	if r.run(); r.poweredOff() != 1 || r.Now().Sub(r.began) > 3*time.Minute {
		t.Errorf("%d are off after %s", r.poweredOff(), r.Now().Sub(r.began))
	}
}

func TestARehearsalGivesTheNoticeAndTakesItBack(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.in.Demand.NoticeOnly, r.in.Demand.Notice, r.in.Demand.VM = true, clock.Duration(30*time.Second), "batch-1"
	res := r.run()
	if res.State != preemptapi.RoundRehearsed || len(r.evictions) != 0 || !slices.Equal(r.states(), []string{noticePending, noticeWithdrawn}) {
		t.Errorf("%q: %+v", r.states(), res)
	}
	if res.NoticeTime.D() != 30*time.Second {
		t.Errorf("the notice lasts %s", res.NoticeTime)
	}
}

func TestARehearsalSaysThatThePolicysNoticeCounts(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.notice(5 * time.Minute)
	r.in.Demand.NoticeOnly, r.in.Demand.Notice, r.in.Demand.VM = true, clock.Duration(30*time.Second), "batch-1"
	if res := r.run(); res.State != preemptapi.RoundRehearsed || res.NoticeTime.D() != 5*time.Minute {
		t.Errorf("the notice lasts %s: %+v", res.NoticeTime, res)
	}
}

func TestASuspendedGuestKeepsNoNotice(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.notice(time.Minute)
	r.in.Demand.Policy.Criticality.High.Action = action.Suspend
	if r.run(); !slices.Equal(r.states(), []string{noticePending, ""}) || len(r.evictions) != 1 {
		t.Errorf("%q", r.states())
	}
}

func TestAGuestThatCannotBeToldIsActedUponAtOnce(t *testing.T) {
	r := newRoundRun(t, 1, preemption.CriticalityHigh)
	r.notice(time.Hour)
	r.OnActivity("GiveNotice", mock.Anything, mock.Anything).Return(NoticeResult{}, temporal.NewNonRetryableApplicationError("no permission", "NoPermission", nil))
	res := r.run()
	if r.poweredOff() != 1 || r.Now().Sub(r.began) > time.Minute || !strings.Contains(res.Targets[0].Notice, "no permission") {
		t.Errorf("%+v", res)
	}
}

func TestGuestsThatShutDownAreWatchedWhileOthersStillHaveTheirNotice(t *testing.T) {
	r := newRoundRun(t, 2, preemption.CriticalityMedium)
	r.notice(5 * time.Minute)
	r.answers = []GuestReply{{Ref: vcentertest.Ref(1), Ready: true}}
	r.onAwait = shutDown
	res := r.run()
	if res.Count(action.ShutDown) != 2 || len(r.waits) < 2 || len(r.waits[0].Pending) != 1 {
		t.Errorf("%d waits: %+v", len(r.waits), res)
	}
}

func TestManyGuestsThatAskForMoreTimeAreToldTogether(t *testing.T) {
	r := newRoundRun(t, 60, preemption.CriticalityHigh)
	r.notice(2 * time.Minute)
	for i := 1; i <= 60; i++ {
		r.answers = append(r.answers, GuestReply{Ref: vcentertest.Ref(i), Extend: clock.Duration(time.Minute)})
	}
	r.run()
	extended := 0
	for _, n := range r.notices {
		if n.Notice != nil && n.Notice.State == noticeExtended {
			extended++
		}
	}
	if extended != 1 || r.poweredOff() != 60 {
		t.Errorf("they were told in %d parts, and %d are off", extended, r.poweredOff())
	}
}
