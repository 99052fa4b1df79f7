package record

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// SparedVerdict is what a round said of a candidate that it left as it was.
type SparedVerdict struct {
	Spared  policy.Spared `json:"spared"`
	Words   string        `json:"words"`
	RoundID string        `json:"roundID"`
	At      time.Time     `json:"at"` // when the round began
}

// lookedThrough is how many of the last rounds are looked through for a candidate.
const lookedThrough = 8

// LastSpared returns what the last rounds said of a candidate of a name or MoRef that they left as it was. ok is false
// where none of the last few names it: of many candidates, rounds count most and name some.
func (r *Reader) LastSpared(ctx context.Context, name string) (v SparedVerdict, ok bool) {
	entries, _ := r.Known(Filter{Kind: Round})
	looked := 0
	for _, e := range entries {
		if e.Spared == 0 {
			continue
		}
		if looked++; looked > lookedThrough || ctx.Err() != nil {
			break
		}
		d, found, err := r.roundResult(ctx, e.ID)
		if err != nil || !found || d.Result == nil {
			continue
		}
		for _, s := range d.Result.Spared {
			if (VM{Ref: s.Ref, Name: s.Name}).Is(name) {
				return SparedVerdict{Spared: s, Words: s.Explanation().Words(), RoundID: e.ID, At: e.StartedAt}, true
			}
		}
	}
	return v, false
}
