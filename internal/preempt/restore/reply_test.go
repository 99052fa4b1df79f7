package restore

import (
	"errors"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestAReplyAddressThatIsAwayKeepsNobodyOff(t *testing.T) {
	r := newRestoreRun(t, func(look int, _ PlanInput) (res PlanResult) { // each restore has one VM
		res.Returns.Returns = []policy.Return{{Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: string(rune('a' + look))}, Wave: 1}}
		return res
	})
	r.replyErr = errors.New("503")
	r.signal(11*time.Minute, preemptapi.RestoreChange{Stop: true, Reason: "rose"}) // the reply is tried until the 15th
	r.signal(12*time.Minute, preemptapi.RestoreChange{Reason: "fell"})
	res := r.run(preemptapi.RestoreInput{Tag: "spot", By: "cpu", ReplyTo: "https://reply.example/"})
	if len(r.powered) != 2 || res.ReplySent || res.ReplyError == "" {
		t.Fatalf("%d power-ons, %+v", len(r.powered), res)
	}
	if again := r.planned[1].Sub(r.began); again > 23*time.Minute {
		t.Errorf("after the fall in the 12th minute it planned after %s", again)
	}
}
