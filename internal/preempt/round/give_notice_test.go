package round

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func (b *bench) notice(n *Notice) NoticeInput {
	in := NoticeInput{Notice: n, Fresh: true, Wait: n == nil}
	for _, t := range b.targets() {
		in.Targets = append(in.Targets, NoticeTarget{Ref: t.Ref, Name: t.Name, ToolsRunning: true})
	}
	return in
}

func TestAGuestReadsWhenItIsTurnedOffAndWhy(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Set(1, func(vm *vcentertest.VM) { vm.GuestInfo[preempt.NoticeReplyKey] = "ready" }) // to an earlier one
	deadline := time.Now().Add(time.Minute).UTC().Truncate(time.Second)
	res := must[NoticeResult](b, b.acts.GiveNotice, b.notice(&Notice{
		State: noticePending, Action: action.PowerOff, Deadline: deadline, Reason: "alarm cpu is red", Decision: "round-1",
	}))
	var read map[string]any
	vm := b.vc.Get(1)
	if err := json.Unmarshal([]byte(vm.GuestInfo[preempt.NoticeKey]), &read); err != nil {
		t.Fatal(err)
	}
	if read["state"] != "pending" || read["action"] != "powerOff" || read["reason"] != "alarm cpu is red" || read["deadline"] != deadline.Format(time.RFC3339) {
		t.Errorf("the guest reads %v", read)
	}
	if len(res.Untold) != 0 || vm.GuestInfo[preempt.NoticeReplyKey] != "" {
		t.Errorf("%+v, and the old answer is %q", res, vm.GuestInfo[preempt.NoticeReplyKey])
	}
}

func TestAGuestThatCannotBeToldIsNamedAndHoldsNobodyUp(t *testing.T) {
	b := newBench(t, 2)
	b.vc.Fail = func(call string, vm vsphere.Ref) error {
		if call == "SetGuestInfo" && vm == vcentertest.Ref(1) {
			return vcentertest.Fault(vcenter.NoPermission)
		}
		return nil
	}
	res := must[NoticeResult](b, b.acts.GiveNotice, b.notice(&Notice{State: noticePending, Deadline: time.Now().Add(time.Minute)}))
	if len(res.Untold) != 1 || res.Untold[vcentertest.Ref(1).String()] == "" || b.vc.Get(2).GuestInfo[preempt.NoticeKey] == "" {
		t.Errorf("%+v", res)
	}
}

func TestTakingANoticeBackWaitsForVCenter(t *testing.T) {
	b := newBench(t, 1)
	b.vc.Fail = vcentertest.Failing("SetGuestInfo", vcenter.Unavailable, 1)
	if _, err := do[NoticeResult](b, b.acts.GiveNotice, b.notice(nil)); vcentertest.TypeOf(err) != string(vcenter.Unavailable) {
		t.Errorf("unexpected %v", err)
	}
	if must[NoticeResult](b, b.acts.GiveNotice, b.notice(nil)); b.vc.Get(1).GuestInfo[preempt.NoticeKey] != "" {
		t.Error("the notice is still there")
	}
}

func TestOneAttemptAtTellingGuestsTakesNoLongerThanTheNoticeRuns(t *testing.T) {
	now := time.Now()
	for what, c := range map[string]struct {
		notice *Notice
		want   time.Duration
	}{
		"a long notice":    {&Notice{State: noticePending, Deadline: now.Add(time.Hour)}, noticeTime},
		"a short notice":   {&Notice{State: noticePending, Deadline: now.Add(20 * time.Second)}, 20 * time.Second},
		"one that is over": {&Notice{State: noticePending, Deadline: now}, shortestNoticeTime},
		"it is taken back": {&Notice{State: noticeWithdrawn, Deadline: now}, noticeTime},
		"it is cleared":    {nil, noticeTime},
	} {
		if got := (NoticeInput{Notice: c.notice}).bound(now); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}

func TestWhatAGuestMayAnswer(t *testing.T) {
	for text, want := range map[string]struct {
		reply GuestReply
		ok    bool
	}{
		"ready":              {GuestReply{Ready: true}, true},
		" ACK ":              {GuestReply{Ready: true}, true},
		"extend 2m":          {GuestReply{Extend: 120e9}, true},
		"extend":             {GuestReply{Extend: 3600e9}, true},
		"extend soon":        {GuestReply{Extend: 3600e9}, true},
		`{"answer":"ready"}`: {GuestReply{Ready: true}, true},
		`{"answer":"ready","decision":"round-1"}`: {GuestReply{Ready: true}, true},
		`{"answer":"ready","decision":"round-0"}`: {},
		`{"answer":"extend","extend":"30s"}`:      {GuestReply{Extend: 30e9}, true},
		`{"answer":`:                              {},
		"no":                                      {},
		"":                                        {},
		"ready" + string(make([]byte, maxReplyText)): {},
	} {
		if got, ok := parseReply(text, "round-1"); got != want.reply || ok != want.ok {
			t.Errorf("%.40q is read as %+v, %v", text, got, ok)
		}
	}
}

func TestTheAnswersOfGuestsAreTakenTogether(t *testing.T) {
	b := newBench(t, 3)
	in := RepliesInput{RoundID: "round-1", Targets: []vsphere.Ref{vcentertest.Ref(1), vcentertest.Ref(2), vcentertest.Ref(3)}, Gather: 150 * time.Millisecond}
	b.vc.Fail = vcentertest.Failing("GuestInfo", vcenter.NoPermission, 1)
	time.AfterFunc(20*time.Millisecond, func() {
		b.vc.Set(1, func(vm *vcentertest.VM) { vm.GuestInfo[preempt.NoticeReplyKey] = "ready" })
		b.vc.Set(2, func(vm *vcentertest.VM) { vm.GuestInfo[preempt.NoticeReplyKey] = "extend 1m" })
	})
	got := must[[]GuestReply](b, b.acts.AwaitReplies, in)
	if len(got) != 2 || !got[0].Ready || got[1].Extend.D() != time.Minute {
		t.Errorf("%+v", got)
	}
}

func TestNoAnswerUntilTheNoticeIsOverIsNone(t *testing.T) {
	b := newBench(t, 1)
	in := RepliesInput{Targets: []vsphere.Ref{vcentertest.Ref(1)}}
	time.AfterFunc(20*time.Millisecond, b.withdraw)
	if got := must[[]GuestReply](b, b.acts.AwaitReplies, in); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	b = newBench(t, 1)
	time.AfterFunc(20*time.Millisecond, b.stopWorker)
	if _, err := do[[]GuestReply](b, b.acts.AwaitReplies, in); err == nil {
		t.Error("a stopping worker took the silence for the guests' answer")
	}
}
