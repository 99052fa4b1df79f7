package intake

import (
	"encoding/json"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
)

// Bounds of one batch that is decoded.
const (
	maxBatch      = 100
	maxBatchBytes = 512 << 10
)

// item is one message in the inbox, with who waits for its decision.
type item struct {
	Message
	decided *preemptapi.Decision // written when decided; nil: nobody waits
	done    *bool
}

// same reports whether the item is a signal with the same text as the message.
func (i item) same(m Message) bool {
	return i.done == nil && i.Alarm == m.Alarm && string(i.JSON) == string(m.JSON)
}

// drain moves what the channels hold into the inbox, and takes the results of rounds.
func (it *intake) drain() {
	for {
		var raw converter.RawValue
		if !it.requests.ReceiveAsync(&raw) {
			break
		}
		it.accept(raw, false)
	}
	for {
		var raw converter.RawValue
		if !it.alarms.ReceiveAsync(&raw) {
			break
		}
		it.accept(raw, true)
	}
	for {
		var r preemptapi.RoundResult
		if !it.rounds.ReceiveAsync(&r) {
			break
		}
		it.roundDone(r)
	}
}

// accept puts one signal into the inbox. What is no JSON, or too large, is rejected here, whoever sent it
// and however it is encoded.
func (it *intake) accept(raw converter.RawValue, isAlarm bool) {
	m := Message{Alarm: isAlarm}
	switch n := len(raw.Payload().GetData()); {
	case n > preemption.MaxRequestBytes:
		it.reject(unreadable, fmt.Sprintf("a signal of %d bytes: at most %d are taken", n, preemption.MaxRequestBytes))
		return
	case n == 0:
		it.reject(unreadable, "a signal without payload")
		return
	}
	if encoding := string(raw.Payload().GetMetadata()[converter.MetadataEncoding]); encoding != converter.MetadataEncodingJSON {
		it.reject(unreadable, fmt.Sprintf("a signal in encoding %q: send %s", preempt.Clip(encoding), converter.MetadataEncodingJSON))
		return
	}
	if err := converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &m.JSON); err != nil {
		it.reject(unreadable, "a signal that is no JSON: "+err.Error())
		return
	}
	if isAlarm {
		many := bundled(raw.Payload())
		if len(many) > 0 && it.hasVersion(versionBundle) {
			for _, one := range many {
				it.take(Message{Alarm: true, JSON: one})
			}
			return
		}
	}
	it.take(m)
}

// bundled returns the elements of a payload that is an array, and none for any other payload.
func bundled(p *commonpb.Payload) (many []json.RawMessage) {
	if err := converter.GetDefaultDataConverter().FromPayload(p, &many); err != nil {
		return nil
	}
	return many
}

// take puts one message into the inbox, where a repetition only counts.
func (it *intake) take(m Message) {
	if n := len(it.inbox); n > 0 && it.inbox[n-1].same(m) {
		it.inbox[n-1].Again++
		return
	}
	it.inbox = append(it.inbox, item{Message: m})
}

// The kinds of rejections, as the metric shows them.
const (
	unreadable     = "unreadable"      // no JSON, too large
	refused        = "refused"         // not what this worker takes
	anotherVCenter = "another_vcenter" // its event is of another vCenter
)

func (it *intake) reject(kind, reason string) {
	it.rejectOf("alarm", kind, reason)
}

// rejectOf keeps and counts a rejection; by says who asked.
func (it *intake) rejectOf(by, kind, reason string) {
	it.state.Requests++
	tally.Add(it.ctx, "preemption_rejections", map[string]string{"by": by, "reason": kind})
	it.state.reject(it.now(), reason)
	if by != "person" && kind != anotherVCenter { // a person reads it where he asked
		it.untold = reason
	}
	workflow.GetLogger(it.ctx).Warn("request rejected", "reason", reason)
}

// process has one batch decoded and decides about each message of it.
func (it *intake) process() {
	n, size := 0, 0
	var batch []Message
	for n < len(it.inbox) && n < maxBatch && size < maxBatchBytes {
		batch = append(batch, it.inbox[n].Message)
		size += len(it.inbox[n].JSON)
		n++
	}
	items := it.inbox[:n:n]
	it.inbox = it.inbox[n:]
	var a *Activities
	var out Decode
	ctx := it.local(time.Minute)
	if err := workflow.ExecuteLocalActivity(ctx, a.DecodeMessages, batch).Get(ctx, &out); err != nil || len(out.Decoded) != n {
		workflow.GetLogger(it.ctx).Error("requests could not be decoded; they are tried again", "error", err)
		it.inbox = append(items, it.inbox...)
		_ = workflow.Sleep(it.ctx, time.Second)
		return
	}
	it.state.Timing, it.state.Attrs = out.Timing, out.Attrs
	for i, decoded := range out.Decoded {
		it.state.Requests += items[i].Again
		decision, elsewhere := it.forward(decoded, items[i])
		if !elsewhere {
			decision = it.decide(decoded)
		}
		decision.IntakeID = it.info.WorkflowExecution.ID
		it.state.LastDecision = &decision
		if items[i].done != nil {
			*items[i].decided, *items[i].done = decision, true
		}
	}
	it.show()
	it.endLargeTask(out)
}
