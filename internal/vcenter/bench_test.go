package vcenter

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// BenchmarkEviction measures what a HIGH request for ten VMs costs in vCenter: candidates, recheck,
// power off, verify, annotate.
func BenchmarkEviction(b *testing.B) {
	for name, latency := range map[string]time.Duration{"no latency": 0, "20 ms per call": 20 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			v, err := simulation.Start(b.Context(), simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 10, Tagged: 10, ExtraTags: 500})
			if err != nil {
				b.Fatal(err)
			}
			dir := b.TempDir()
			_ = v.WriteSecret(dir)
			g, err := New(Config{URL: v.URL(), SecretPath: dir, Insecure: true})
			if err != nil {
				b.Fatal(err)
			}
			defer g.Close(b.Context())
			if err := g.RefreshTags(b.Context()); err != nil {
				b.Fatal(err)
			}
			v.SetLatency(latency)
			calls := 0
			for b.Loop() {
				b.StopTimer()
				v.ResetCalls()
				for _, vm := range v.VMs() {
					_ = v.PowerOnAs(vm.Ref, "owner@vsphere.local")
				}
				b.StartTimer()
				evictAll(b, g)
				calls = v.TotalCalls()
			}
			b.ReportMetric(float64(calls), "calls")
		})
	}
}

func evictAll(b *testing.B, g *Gateway) {
	ctx := b.Context()
	snapshot, err := g.Candidates(ctx, "preemptible", Scope{})
	if err != nil {
		b.Fatal(err)
	}
	var refs []vsphere.Ref
	for _, vm := range snapshot.VMs {
		refs = append(refs, vm.Ref)
	}
	if _, err := g.Recheck(ctx, "preemptible", refs); err != nil {
		b.Fatal(err)
	}
	waits := make([]Wait, len(refs))
	done := make(chan error, 2*len(refs))
	for i, ref := range refs {
		go func() {
			task, err := g.PowerOff(ctx, ref)
			waits[i] = Wait{VM: ref, Task: task}
			done <- err
		}()
	}
	drain(b, done, len(refs))
	err = g.AwaitOff(ctx, waits, func(ref vsphere.Ref, _ WaitResult) {
		go func() { done <- g.Annotate(ctx, ref, attribute, "{}") }()
	})
	if err != nil {
		b.Fatal(err)
	}
	drain(b, done, len(refs))
}

func drain(b *testing.B, done chan error, n int) {
	for range n {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCallLimit has a vCenter that slows under load write 600 attributes. For its first seconds it has room for 3
// calls at once, as beside a backup, and then for 12. A fixed limit is right for one of the two times; the limit that
// adapts has the highest of them as its bound.
func BenchmarkCallLimit(b *testing.B) {
	const writes, busy = 600, 5 * time.Second
	for _, fixed := range []int{3, 5, 8, 12, 20, 0} {
		name := fmt.Sprintf("fixed=%d", fixed)
		if fixed == 0 {
			name = "adapts<=20"
		}
		b.Run(name, func(b *testing.B) {
			v, err := simulation.Start(b.Context(), simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 10, Tagged: 10})
			if err != nil {
				b.Fatal(err)
			}
			dir := b.TempDir()
			_ = v.WriteSecret(dir)
			g, err := New(Config{URL: v.URL(), SecretPath: dir, Insecure: true, MaxConcurrentCalls: cmp.Or(fixed, 20)})
			if err != nil {
				b.Fatal(err)
			}
			defer g.Close(b.Context())
			ref := taggedRefs(v)[0]
			for b.Loop() {
				b.StopTimer()
				if err := g.Annotate(b.Context(), ref, attribute, "{}"); err != nil { // vCenter at its best
					b.Fatal(err)
				}
				began := time.Now()
				v.SlowUnderLoad(func(inFlight int) time.Duration {
					if time.Since(began) < busy {
						return overloaded(3)(inFlight)
					}
					return overloaded(12)(inFlight)
				})
				b.StartTimer()
				annotateAll(b, g, ref, writes, fixed)
				v.SlowUnderLoad(nil)
			}
		})
	}
}

// annotateAll writes an attribute so often. A limit above zero is held by force, whatever vCenter does.
func annotateAll(b *testing.B, g *Gateway, ref vsphere.Ref, writes, fixed int) {
	done := make(chan error, writes)
	for range writes {
		go func() { done <- g.Annotate(b.Context(), ref, attribute, "{}") }()
	}
	for range writes {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if fixed > 0 {
			g.limit.mu.Lock()
			g.limit.set(float64(fixed))
			g.limit.mu.Unlock()
		}
	}
}
