package faults

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// A rollout stops workers while vCenter is slow: what reads vCenter then is cut off, and says nothing about vCenter.

func TestAPlanThatIsCutOffByItsWorkersStopIsMadeByTheNext(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	p := s.Process()
	release := s.Hold("RetrievePropertiesEx")
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.Started("alarm")
	s.Eventually("the plan reads vCenter", func() bool { return s.Calls("RetrievePropertiesEx") > 0 })
	p.Terminate()
	release()
	s.Worker()
	r := s.Round(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.WantOursExactly(r)
}

func TestARemediationThatIsCutOffByItsWorkersStopIsCarriedOutByTheNext(t *testing.T) {
	t.Parallel()
	for name, method := range map[string]string{"while it plans": "RetrievePropertiesEx", "while it acts": "ReconfigVM_Task"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.OneCluster(2))
			vm := s.VC.TaggedVMs("")[0].Ref
			s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
			p := s.Process()
			before := s.Calls(method)
			release := s.Hold(method)
			done := make(chan remediateapi.Report)
			go func() {
				done <- s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) {
					r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotAdd}
				}))
			}()
			s.Eventually("it calls vCenter", func() bool { return s.Calls(method) > before })
			p.Terminate()
			release()
			s.Worker()
			if r := <-done; len(r.Decisions) != 1 || r.Decisions[0].State != remediateapi.Applied {
				t.Error(sitetest.Pretty(r))
			}
			s.WantHardware(vm, 3, 16<<10)
		})
	}
}
