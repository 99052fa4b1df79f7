package e2e

import (
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// liveTold is a round and its restore of which people are told, owners too, with a request that is not taken.
func liveTold(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.WithNotice(time.Second))
	h := newHook(t)
	s.Env = map[string]string{"OPS": h.address("/")}
	s.Told.Channels = []tell.Channel{{Name: "ops", URLFrom: tell.Source{Env: "OPS"}, On: tell.Events(), Owners: true}}
	s.Must(s.VC.SetTags(s.VC.TaggedVMs("cluster-a")[0].Ref, tell.CategoryNotify, "ops"))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	s.Signal("alarm", preemption.WorkflowRequest{Tag: "preemptible", Criticality: "SOME"})
	back, err := s.ByHand(preemptapi.RestoreInput{PolicyName: "default"})
	s.Must(err)
	s.Eventually("all is told: notice and end, twice with the owner, the rejection, the restore", func() bool { return len(h.texts()) >= 6+len(back.Restored())/6 })
	s.Keep(name, s.ID("alarm"), r.RoundID, back.RestoreID, "preemption-notification-"+r.RunID+"-notice-1")
}
