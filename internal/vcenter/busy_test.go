package vcenter

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// fillBusy leaves behind what n reconfigurations of other VMs do, each of several KB.
func fillBusy(v *simulation.VCenter, n int) {
	text := strings.Repeat("Modified: config.extraConfig(\"guestinfo.metadata\"): ... ", 80)
	v.FillHistory(n, time.Hour, func(i int) types.BaseEvent {
		return &types.VmReconfiguredEvent{
			VmEvent: types.VmEvent{Event: types.Event{
				UserName: `VSPHERE.LOCAL\someone`, FullFormattedMessage: text,
				Vm: &types.VmEventArgument{Vm: types.ManagedObjectReference{Type: "VirtualMachine", Value: fmt.Sprintf("vm-%d", 100000+i%5000)}},
			}},
			ConfigSpec: types.VirtualMachineConfigSpec{Annotation: text},
		}
	})
}

// keptWhile returns the most memory that was held while f reads events, by pages.
func keptWhile(g *Gateway, f func()) (mb float64, pages int) {
	var base, most atomic.Uint64
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	g.cfg.Observe = func(method, _ string, _ time.Duration) {
		if method != "ReadNextEvents" {
			return
		}
		if pages++; pages%10 == 1 {
			most.Store(max(most.Load(), held()))
		}
	}
	base.Store(held())
	f()
	most.Store(max(most.Load(), held()))
	return (float64(most.Load()) - float64(base.Load())) / (1 << 20), pages
}

func TestABusyVCenterFillsNoMemory(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	fillBusy(v, 20000)
	check(t, v.RefitAs(toMoRef(refs[0]), owner))
	var touched map[any]bool
	mb, pages := keptWhile(g, func() {
		found, err := g.TouchedSince(t.Context(), refs, time.Now().Add(-2*time.Hour))
		check(t, err)
		touched = map[any]bool{}
		for ref := range found {
			touched[ref] = true
		}
	})
	if len(touched) != 1 || pages < 20 {
		t.Fatalf("touched %v after %d pages", touched, pages)
	}
	if mb > 60 { // a page of a thousand takes 10 to 20 MB on its way, all of them some 200
		t.Errorf("%.0f MB were held while 20,000 events of others were read", mb)
	}
}

// BenchmarkBusyHistory prints what reading the touches and power-offs of a few VMs costs where others left 100,000
// events behind.
func BenchmarkBusyHistory(b *testing.B) {
	v, err := simulation.Start(b.Context(), small())
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	dir := b.TempDir()
	_ = v.WriteSecret(dir)
	g, err := New(Config{URL: v.URL(), SecretPath: dir, Insecure: true})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close(b.Context())
	refs := taggedRefs(v)
	fillBusy(v, 100000)
	for b.Loop() {
		mb, pages := keptWhile(g, func() {
			if _, err := g.TouchedSince(b.Context(), refs, time.Now().Add(-2*time.Hour)); err != nil {
				b.Fatal(err)
			}
		})
		b.ReportMetric(mb, "MB-held")
		b.ReportMetric(float64(pages), "pages")
	}
}
