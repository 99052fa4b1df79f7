package vcenter

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// simulated starts a vCenter that ends with the test.
func simulated(t *testing.T, o simulation.Options) *simulation.VCenter {
	t.Helper()
	v, err := simulation.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// gateway makes a gateway to v with its credentials and thumbprint.
func gateway(t *testing.T, v *simulation.VCenter, change ...func(*Config)) *Gateway {
	t.Helper()
	cfg := Config{URL: v.URL(), SecretPath: t.TempDir(), Thumbprint: v.Thumbprint()}
	if err := v.WriteSecret(cfg.SecretPath); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		g.Close(ctx)
	})
	return g
}

// warm is a gateway that has logged in and read the tags, to a vCenter whose counters are at zero.
func warm(t *testing.T, o simulation.Options) (*simulation.VCenter, *Gateway) {
	t.Helper()
	v := simulated(t, o)
	g := gateway(t, v)
	check(t, g.RefreshTags(t.Context())) // before Connect, which would do it in the background
	_, err := g.OwnerCategories(t.Context(), false)
	check(t, err)
	check(t, g.Connect(t.Context()))
	v.ResetCalls()
	return v, g
}

// small is an inventory that is quick to make.
func small() simulation.Options {
	return simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 4, Tagged: 3}
}

func taggedRefs(v *simulation.VCenter) (refs []vsphere.Ref) {
	for _, cluster := range v.Inventory().Clusters {
		for _, vm := range v.TaggedVMs(cluster.Name) {
			refs = append(refs, fromMoRef(vm.Ref))
		}
	}
	return refs
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, want Kind) {
	t.Helper()
	if KindOf(err) != want {
		t.Fatalf("kind %q, want %q: %v", KindOf(err), want, err)
	}
}

func wantCalls(t *testing.T, v *simulation.VCenter, most int) {
	t.Helper()
	if n := v.TotalCalls(); n > most {
		t.Errorf("%d calls, want at most %d: %v", n, most, v.Calls())
	}
}

// eventually waits for a condition that something else brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func moRef(r vsphere.Ref) *types.ManagedObjectReference {
	m := toMoRef(r)
	return &m
}

type ref = vsphere.Ref

// gone is a VM that no vCenter has.
var gone = vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-99999"}

// logBuffer collects log lines from any goroutine.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
