package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// How far back, and for how long, the record is read for VMs that a restore left because they carry no open record of ours.
const (
	backWithin = 30 * 24 * time.Hour
	backLimit  = 10 * time.Second
)

// cameBack is a VM that was preempted and is back already, by the record.
type cameBack struct {
	VM        vsphere.Ref `json:"vm"`
	At        time.Time   `json:"at,omitzero"` // zero: the record does not show when
	RoundID   string      `json:"roundID"`     // that turned it off
	RestoreID string      `json:"restoreID,omitempty"`
	Words     string      `json:"words"`
}

// backOf says how a VM came back the last time; ok is false where it is off because of us, or never was.
func backOf(rec record.VMRecord) (b cameBack, ok bool) {
	if rec.Off != nil || len(rec.Downs) == 0 {
		return b, false
	}
	d := rec.Downs[0]
	b = cameBack{VM: d.VM, At: d.Until, RoundID: d.RoundID, RestoreID: d.RestoreID}
	verb := "came back"
	if d.Throttled {
		verb = "got its CPU back"
	}
	switch {
	case d.Until.IsZero():
		b.Words = fmt.Sprintf("it %s after round %s: not by a restore of ours", verb, d.RoundID)
	case d.RestoreID == "":
		b.Words = fmt.Sprintf("it %s at %s, after round %s", verb, timestamp(d.Until), d.RoundID)
	default:
		b.Words = fmt.Sprintf("it %s at %s: %s restored it after round %s", verb, timestamp(d.Until), d.RestoreID, d.RoundID)
	}
	return b, true
}

// cameBack looks the VMs up in the record that a restore left because they carry no open record of ours: whether they came back
// before. What cannot be read in time is left out.
func (s *session) cameBack(ctx context.Context, left []policy.Spared) (all []cameBack) {
	rec := (*record.Reader)(nil)
	since := s.app.Now().Add(-backWithin)
	for _, vm := range left {
		if vm.Reason != policy.AlreadyOn && vm.Reason != policy.NotOurs {
			continue
		}
		if rec == nil {
			rec = s.record()
			ctx, cancel := context.WithTimeout(ctx, backLimit)
			_, _, err := rec.History(ctx, record.Filter{Since: since})
			cancel()
			if err != nil {
				s.app.log.Debug("the record could not all be read", "error", err)
			}
		}
		known, _, ok := rec.KnownVM(vm.Ref.String(), since)
		if !ok {
			continue
		}
		if b, back := backOf(known); back {
			all = append(all, b)
		}
	}
	return all
}

// restoreShown is a restore as preemptctl prints it.
type restoreShown struct {
	preemptapi.RestoreResult
	CameBack []cameBack `json:"cameBack,omitempty"` // of those that were left: who is back already
}

// whyLeft says why a VM was left: that it is back already, if it is.
func (r restoreShown) whyLeft(v policy.Spared) string {
	for _, b := range r.CameBack {
		if b.VM == v.Ref {
			return b.Words
		}
	}
	return v.Explanation().Words()
}
