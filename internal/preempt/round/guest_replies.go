package round

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

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

// AwaitReplies waits until a guest has answered its notice, and returns all answers. The workflow's timer ends it by
// cancelling it. It keeps trying while vCenter is away.
func (a *Activities) AwaitReplies(ctx context.Context, in RepliesInput) ([]GuestReply, error) {
	stop := a.Beat(ctx)
	defer stop()
	for said, gathered := false, in.Gather <= 0; ; {
		values, err := a.VCenter.GuestInfo(ctx, in.Targets, preempt.NoticeReplyKey)
		if err != nil && !said && !vcenter.KindOf(err).Outage() && ctx.Err() == nil {
			a.Logger(ctx).Warn("the guests' answers cannot be read; it is tried until the notice is over", "reason", err)
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
		if !clock.Sleep(ctx, a.Settings.Timing.ReplyPoll()) {
			if step.Cancelled(ctx) {
				return nil, nil // its time is over
			}
			return nil, preempt.HandOver(ctx)
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
