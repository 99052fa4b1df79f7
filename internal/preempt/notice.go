package preempt

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// The guest keys of a notice: ours, and the guest's answer.
const (
	noticeKey = "guestinfo.preemption"
	replyKey  = "guestinfo.preemption.reply"
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

// GiveNotice writes the notice into the guests, or clears it: best effort, for nobody's notice may hold up
// what is due. It may be repeated.
func (a *Activities) GiveNotice(ctx context.Context, in NoticeInput) (NoticeResult, error) {
	stop := a.beat(ctx)
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
		forgotten = []string{replyKey}
	}
	out := NoticeResult{Untold: map[string]string{}}
	var away error
	for ref, err := range a.VCenter.SetGuestInfos(ctx, noticeKey, texts, forgotten...) {
		out.Untold[ref.String()] = clip(err.Error())
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
		a.logger(ctx).Warn("the guest could not be told", "moref", ref.Value, "reason", err, "doubtful", vcenter.AnswerLost(err))
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

// bound is how long an attempt may take: no longer than the notice runs, for those who were told wait no longer either.
func (in NoticeInput) bound(now time.Time) time.Duration {
	if in.Notice == nil || in.Notice.State == noticeWithdrawn {
		return noticeTime
	}
	return min(noticeTime, max(shortestNoticeTime, in.Notice.Deadline.Sub(now)))
}

// RepliesInput asks for the guests' answers.
type RepliesInput struct {
	RoundID string        `json:"roundID"`
	Targets []vsphere.Ref `json:"targets"`
	// Gather is how long to wait for more answers after the first, where there are many guests.
	Gather time.Duration `json:"gather,omitempty"`
}

// GuestReply is a guest's answer to its notice.
type GuestReply struct {
	Ref    vsphere.Ref    `json:"ref"`
	Ready  bool           `json:"ready,omitempty"`  // it is prepared: no need to wait
	Extend clock.Duration `json:"extend,omitempty"` // it asks for so much more time
}

// AwaitReplies looks until a guest has answered its notice, and returns all answers that are there. The
// workflow's timer ends it by cancelling it. While vCenter is away it goes on looking.
func (a *Activities) AwaitReplies(ctx context.Context, in RepliesInput) ([]GuestReply, error) {
	stop := a.beat(ctx)
	defer stop()
	for said, gathered := false, in.Gather <= 0; ; {
		values, err := a.VCenter.GuestInfo(ctx, in.Targets, replyKey)
		if err != nil && !said && !vcenter.KindOf(err).Outage() && ctx.Err() == nil {
			a.logger(ctx).Warn("the guests' answers cannot be read; it is tried until the notice is over", "reason", err)
			said = true
		}
		var replies []GuestReply
		for _, ref := range in.Targets {
			if r, ok := parseReply(values[ref], in.RoundID); ok {
				r.Ref = ref
				replies = append(replies, r)
			}
		}
		if len(replies) > 0 && (gathered || !clock.Sleep(ctx, in.Gather)) {
			return replies, nil
		}
		if len(replies) > 0 {
			gathered = true
			continue
		}
		if !clock.Sleep(ctx, a.Settings.Timing.replyPoll()) {
			if step.Cancelled(ctx) {
				return nil, nil // its time is over
			}
			return nil, handOver(ctx)
		}
	}
}

// maxReplyText bounds what is read of a guest's answer.
const maxReplyText = 1024

// parseReply reads a guest's answer: the word ready (or ack), extend with or without a duration, or JSON
// {"answer","extend","decision"}. An answer to another decision, and what cannot be read, is none.
func parseReply(text, round string) (GuestReply, bool) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxReplyText {
		return GuestReply{}, false
	}
	var j struct {
		Answer   string `json:"answer"`
		Extend   string `json:"extend"`
		Decision string `json:"decision"`
	}
	if strings.HasPrefix(text, "{") {
		if json.Unmarshal([]byte(text), &j) != nil || (j.Decision != "" && j.Decision != round) {
			return GuestReply{}, false
		}
	} else {
		j.Answer, j.Extend, _ = strings.Cut(text, " ")
	}
	switch strings.ToLower(j.Answer) {
	case "ready", "ack":
		return GuestReply{Ready: true}, true
	case "extend":
		d, err := time.ParseDuration(strings.TrimSpace(j.Extend))
		if err != nil || d <= 0 {
			d = time.Hour // as much as there is: it is bounded by what the notice allows
		}
		return GuestReply{Extend: clock.Duration(d)}, true
	}
	return GuestReply{}, false
}
