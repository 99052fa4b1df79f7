package remedies

import (
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestAPauseOfOneClusterHoldsUpTheRemediationsOfItsVMs(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Rules = append(s.Rules, resizes(placement.AlarmCPU, placement.Resize{Mode: placement.ModeHotAdd}))
	held, other := s.VC.TaggedVMs("cluster-a")[0].Ref, s.VC.TaggedVMs("cluster-b")[0].Ref
	for _, vm := range []simulation.VM{{Ref: held}, {Ref: other}} {
		s.Must(s.VC.SetHardware(vm.Ref, simulation.Hardware{CPUs: 4, CoresPerSocket: 2, CPUHotAdd: true}))
	}
	s.Works()
	if code, _, errs := s.Typed("pause", "--cluster", "cluster-a", "--reason", "firmware"); code != 0 {
		t.Fatal(errs)
	}
	s.TurnsRed(placement.AlarmCPU, held)
	s.TurnsRed(placement.AlarmCPU, other)
	s.Decided(placement.KindResize, other, remediateapi.Applied)
	s.Eventually("the resize in the paused cluster says what it waits for", func() bool {
		var r remediateapi.Report
		answer, err := s.Temporal.QueryWorkflow(t.Context(), placement.WorkflowID(placement.KindResize, sitetest.Ref(held), s.Queue), "", remediateapi.StateQuery)
		return err == nil && answer.Get(&r) == nil && len(r.Decisions) == 1 && strings.Contains(r.Decisions[0].Reason, "cluster-a (ClusterComputeResource:") && strings.Contains(r.Decisions[0].Reason, "firmware")
	})
	s.WantHardware(held, 4, 16384)
	if code, _, errs := s.Typed("resume", "--cluster", "cluster-a"); code != 0 {
		t.Fatal(errs)
	}
	s.Decided(placement.KindResize, held, remediateapi.Applied)
}
