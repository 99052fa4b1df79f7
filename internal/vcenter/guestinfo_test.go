package vcenter

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const (
	noticeKey = simulation.NoticeKey
	replyKey  = simulation.ReplyKey
)

func TestAGuestKeyIsWrittenReadAndRemoved(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, g.SetGuestInfo(t.Context(), refs[0], noticeKey, `{"a":"<b> & c"}`))
	wantCalls(t, v, 6)
	check(t, g.SetGuestInfo(t.Context(), refs[1], noticeKey, "1"))
	check(t, g.SetGuestInfo(t.Context(), refs[1], noticeKey, "2"))
	v.ResetCalls()
	values, err := g.GuestInfo(t.Context(), append(refs, gone), noticeKey)
	check(t, err)
	wantCalls(t, v, 2) // also when the end of the last wait came late
	if len(values) != 2 || values[refs[0]] != `{"a":"<b> & c"}` || values[refs[1]] != "2" {
		t.Errorf("read %q", values)
	}
	for range 2 { // the second finds nothing to remove
		check(t, g.ClearGuestInfo(t.Context(), refs[0], noticeKey))
	}
	values, err = g.GuestInfo(t.Context(), refs, noticeKey)
	check(t, err)
	if len(values) != 1 {
		t.Errorf("read %q", values)
	}
}

func TestOnlyGuestKeysOfSomeLengthAreWritten(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	for _, key := range []string{"", "guestinfo.", "isolation.tools.copy.disable", "SET.guestinfo.x", `guestinfo.a"b`, "xguestinfo.a"} {
		wantKind(t, g.SetGuestInfo(t.Context(), ref, key, "x"), Invalid)
		_, err := g.GuestInfo(t.Context(), []vsphere.Ref{ref}, key)
		wantKind(t, err, Invalid)
	}
	wantKind(t, g.SetGuestInfo(t.Context(), ref, noticeKey, strings.Repeat("x", 32<<10+1)), Invalid)
	wantCalls(t, v, 0)
	check(t, g.SetGuestInfo(t.Context(), ref, noticeKey, strings.Repeat("x", 32<<10)))
}

func TestManyGuestKeysAreWaitedForTogether(t *testing.T) {
	v, g := warm(t, many(20))
	values := map[vsphere.Ref]string{gone: "x"}
	for _, ref := range taggedRefs(v) {
		values[ref] = ref.Value
	}
	failed := g.SetGuestInfos(t.Context(), noticeKey, values)
	wantCalls(t, v, len(values)+6)
	if len(failed) != 1 {
		t.Errorf("failed %v", failed)
	}
	wantKind(t, failed[gone], NotFound)
	for _, ref := range taggedRefs(v) {
		if v.GuestInfo(toMoRef(ref), noticeKey) != ref.Value {
			t.Errorf("%v has %q", ref, v.GuestInfo(toMoRef(ref), noticeKey))
		}
	}
}

func TestAFailedReconfigurationIsReported(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	v.FailCall("ReconfigVM_Task", moRef(ref), &types.NoPermission{PrivilegeId: "VirtualMachine.Config.AdvancedConfig"}, 1)
	wantKind(t, g.SetGuestInfo(t.Context(), ref, noticeKey, "x"), NoPermission)
	check(t, v.SetTemplate(toMoRef(ref)))
	err := g.SetGuestInfo(t.Context(), ref, noticeKey, "x")
	wantKind(t, err, TaskFailed)
	if !strings.Contains(err.Error(), "set a guest key of "+ref.Value) {
		t.Error(err)
	}
}

func TestTheGuestAnswersANotice(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.SetToolsRunning(toMoRef(refs[1]), false))
	for _, ref := range refs[:2] {
		v.GuestReply(toMoRef(ref), func(notice string) (string, time.Duration) { return "seen " + notice, time.Millisecond })
		check(t, g.SetGuestInfo(t.Context(), ref, noticeKey, "soon"))
	}
	eventually(t, "the guest answers", func() bool {
		values, err := g.GuestInfo(t.Context(), refs, replyKey)
		check(t, err)
		if _, ok := values[refs[1]]; ok {
			t.Error("a guest without tools answers")
		}
		return values[refs[0]] == "seen soon"
	})
}
