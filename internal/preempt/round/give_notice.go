package round

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// The states of a notice, as the guest reads them.
const (
	noticePending   = "pending"   // the action comes at the deadline
	noticeExtended  = "extended"  // the same, later, as the guest asked for
	noticeWithdrawn = "withdrawn" // nothing happens after all
)

// Notice is what a guest is told before it is acted upon, as JSON in guestinfo.preemption.
type Notice struct {
	State    string        `json:"state"`
	Action   action.Action `json:"action"`   // powerOff, shutdownGuest or suspend
	Deadline time.Time     `json:"deadline"` // when the action comes, RFC 3339 in UTC
	Reason   string        `json:"reason"`
	Decision string        `json:"decision"`         // id of the round; an answer may repeat it
	Extend   string        `json:"extend,omitempty"` // most that the guest may ask for, once; "" when it has had that
}

// NoticeTarget is one VM to be told.
type NoticeTarget struct {
	Ref          vsphere.Ref `json:"ref"`
	Name         string      `json:"name"`
	ToolsRunning bool        `json:"toolsRunning"`
}

// NoticeInput says whom to tell what. Without a notice the keys are cleared.
type NoticeInput struct {
	Targets []NoticeTarget `json:"targets"`
	Notice  *Notice        `json:"notice,omitempty"`
	// Fresh forgets answers to earlier notices.
	Fresh bool `json:"fresh,omitempty"`
	// Wait tries again while vCenter is away: to take a notice back, which must not stay in a guest.
	Wait bool `json:"wait,omitempty"`
}

// NoticeResult says who could not be told, and why.
type NoticeResult struct {
	Untold map[string]string `json:"untold,omitempty"` // by Ref.String
	// Doubtful are those of them that may have been told: vCenter's answer was lost, and so were later ones.
	Doubtful map[string]bool `json:"doubtful,omitempty"`
}

// GiveNotice writes the notice into the guests, or clears it. It does what it can: a guest that cannot be told delays
// nobody. It may be repeated.
func (a *Activities) GiveNotice(ctx context.Context, in NoticeInput) (NoticeResult, error) {
	stop := a.Beat(ctx)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, in.bound(time.Now()))
	defer cancel()
	text := ""
	if in.Notice != nil {
		b, err := json.Marshal(in.Notice)
		if err != nil {
			return NoticeResult{}, err
		}
		text = string(b)
	}
	texts := map[vsphere.Ref]string{}
	for _, t := range in.Targets {
		texts[t.Ref] = text
	}
	var forgotten []string
	if in.Fresh {
		forgotten = []string{preempt.NoticeReplyKey}
	}
	out := NoticeResult{Untold: map[string]string{}}
	var away error
	for ref, err := range a.VCenter.SetGuestInfos(ctx, preempt.NoticeKey, texts, forgotten...) {
		out.Untold[ref.String()] = preempt.Clip(err.Error())
		if vcenter.AnswerLost(err) {
			if out.Doubtful == nil {
				out.Doubtful = map[string]bool{}
			}
			out.Doubtful[ref.String()] = true
		}
		var outage *vcenter.Error
		if errors.As(err, &outage) && outage.Kind.Outage() {
			away = err
		}
		a.Logger(ctx).Warn("the guest could not be told", "moref", ref.Value, "reason", err, "doubtful", vcenter.AnswerLost(err))
	}
	if in.Wait && away != nil {
		return NoticeResult{}, step.Typed(away)
	}
	return out, nil
}

// The bounds of one attempt at telling the guests: a reconfiguration may hang while a snapshot is consolidated.
const (
	noticeTime         = 45 * time.Second
	shortestNoticeTime = 5 * time.Second
)

// bound is how long an attempt may take: no longer than the notice runs.
func (in NoticeInput) bound(now time.Time) time.Duration {
	if in.Notice == nil || in.Notice.State == noticeWithdrawn {
		return noticeTime
	}
	return min(noticeTime, max(shortestNoticeTime, in.Notice.Deadline.Sub(now)))
}
