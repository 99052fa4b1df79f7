package remedies

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

func TestPeopleAreToldOfAResize(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	var mu sync.Mutex
	var got []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(text))
	}))
	t.Cleanup(hook.Close)
	s.Env = map[string]string{"OPS": "generic+" + hook.URL}
	s.Told.Channels = []tell.Channel{{Name: "ops", URLFrom: tell.Source{Env: "OPS"}, On: []tell.Event{tell.Remediation}}}
	s.Rules = append(s.Rules, resizes(placement.AlarmCPU, placement.Resize{Mode: placement.ModeHotOrOff}))
	vm := s.VC.TaggedVMs("")[0]
	s.Must(s.VC.SetHardware(vm.Ref, simulation.Hardware{CPUs: 4, CoresPerSocket: 2, CPUHotAdd: true}))
	s.Works()
	s.TurnsRed(placement.AlarmCPU, vm.Ref)
	s.Decided(placement.KindResize, vm.Ref, remediateapi.Applied)
	s.Eventually("people are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 1
	})
	if !strings.Contains(got[0], vm.Name) || !strings.Contains(got[0], "resize was done") || !strings.Contains(got[0], placement.AlarmCPU) {
		t.Errorf("the message reads\n%s", got[0])
	}
	s.Keep("told", placement.WorkflowID(placement.KindResize, sitetest.Ref(vm.Ref), s.Queue))
}
