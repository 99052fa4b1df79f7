package vcenter

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestConnectTellsWhoAndWhere(t *testing.T) {
	v := simulated(t, small())
	g := gateway(t, v)
	if g.User() != "" || g.InstanceUUID() != "" {
		t.Error("known before the first login")
	}
	if at, err := g.LastContact(); !at.IsZero() || err != nil {
		t.Errorf("contact before the first call: %v %v", at, err)
	}
	check(t, g.Connect(t.Context()))
	if g.User() != v.EventUser() || g.InstanceUUID() == "" {
		t.Errorf("user %q, want %q; instance %q", g.User(), v.EventUser(), g.InstanceUUID())
	}
	if at, err := g.LastContact(); time.Since(at) > time.Minute || err != nil {
		t.Errorf("contact %v %v", at, err)
	}
	now, err := g.ServerTime(t.Context())
	if check(t, err); time.Since(now).Abs() > time.Minute {
		t.Errorf("vCenter's clock shows %v", now)
	}
}

func TestCloseLogsOutAndEndsCalls(t *testing.T) {
	v, g := warm(t, small())
	g.Close(t.Context())
	if v.Calls()["Logout"] != 1 || v.Calls()["REST DELETE /com/vmware/cis/session"] != 1 {
		t.Errorf("calls %v", v.Calls())
	}
	_, err := g.ServerTime(t.Context())
	wantKind(t, err, Unavailable)
}

func TestLostSessionsAreRenewed(t *testing.T) {
	v, g := warm(t, small())
	for range 2 {
		check(t, v.TerminateSessions())
		snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{})
		check(t, err)
		if len(snapshot.VMs) != 3 {
			t.Errorf("%d VMs", len(snapshot.VMs))
		}
	}
	if n := v.Calls()["Login"]; n != 2 {
		t.Errorf("%d logins for two lost sessions", n)
	}
}

func TestManyCallersRenewALostSessionOnce(t *testing.T) {
	v, g := warm(t, small())
	check(t, v.TerminateSessions())
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := g.Recheck(t.Context(), "preemptible", taggedRefs(v)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n, m := v.Calls()["Login"], v.Calls()["REST POST /com/vmware/cis/session"]; n != 1 || m != 1 {
		t.Errorf("%d SOAP and %d REST logins", n, m)
	}
}

func TestRetrievalDoesNotTakeAnExpiredSessionForAnEmptyInventory(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.TerminateSessions())
	values, err := g.inventory(t.Context(), call{op: "read"}, wanted{vms: refs, scope: fromMoRef(v.Inventory().Clusters[0].Ref)})
	check(t, err)
	if vm, ok := values.vm(refs[0]); !ok || vm.PowerState == "" || vm.Cluster.Zero() {
		t.Errorf("read %+v", vm)
	}
}

func TestAnOutageIsReportedAndRecovered(t *testing.T) {
	v, g := warm(t, small())
	v.Outage()
	_, err := g.Candidates(t.Context(), "preemptible", Scope{})
	wantKind(t, err, Unavailable)
	if !strings.Contains(err.Error(), `list candidates with tag "preemptible"`) || !strings.Contains(err.Error(), "503") {
		t.Errorf("%q does not tell what and why", err)
	}
	if _, last := g.LastContact(); KindOf(last) != Unavailable {
		t.Errorf("last contact error %v", last)
	}
	v.Recover()
	_, err = g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
	if _, last := g.LastContact(); last != nil {
		t.Errorf("last contact error %v after recovery", last)
	}
}

func TestAnswersAboutObjectsAreContact(t *testing.T) {
	v, g := warm(t, small())
	before, _ := g.LastContact()
	_, err := g.PowerOff(t.Context(), gone)
	wantKind(t, err, NotFound)
	if at, last := g.LastContact(); last != nil || !at.After(before) {
		t.Errorf("contact %v %v", at, last)
	}
	_ = v
}

func TestReadsSurviveAClosedIdleConnection(t *testing.T) {
	v, g := warm(t, small())
	v.DropConnections() // closes what is idle
	v.Recover()
	_, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
}

func TestARestartedVCenterIsFoundAgain(t *testing.T) {
	v, g := warm(t, small())
	check(t, v.Stop())
	_, err := g.ServerTime(t.Context())
	wantKind(t, err, Unavailable)
	check(t, v.Restart())
	check(t, g.Connect(t.Context()))
}

func TestWrongPasswordThenRotated(t *testing.T) {
	v := simulated(t, small())
	dir := t.TempDir()
	g := gateway(t, v, func(c *Config) { c.SecretPath = dir })
	writeSecret(t, dir, v.Username(), "hunter2")
	err := g.Connect(t.Context())
	wantKind(t, err, InvalidLogin)
	if !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%q must name the folder and no password", err)
	}
	for range 5 {
		wantKind(t, g.Connect(t.Context()), InvalidLogin)
	}
	if n := v.Calls()["Login"]; n != 1 {
		t.Errorf("%d logins with the same wrong password", n)
	}
	check(t, v.WriteSecret(dir))
	check(t, g.Connect(t.Context()))
}

func TestAPasswordRotatedInVCenterIsReadFromTheFolder(t *testing.T) {
	v := simulated(t, small())
	dir := t.TempDir()
	check(t, v.WriteSecret(dir))
	g := gateway(t, v, func(c *Config) { c.SecretPath = dir })
	check(t, g.Connect(t.Context()))
	v.SetPassword("another")
	check(t, v.TerminateSessions())
	wantKind(t, g.Connect(t.Context()), InvalidLogin)
	check(t, v.WriteSecret(dir))
	check(t, g.Connect(t.Context()))
	_, err := g.Candidates(t.Context(), "preemptible", Scope{})
	check(t, err)
}

func TestMissingSecretIsWaitedOut(t *testing.T) {
	v := simulated(t, small())
	dir := filepath.Join(t.TempDir(), "later")
	g := gateway(t, v, func(c *Config) { c.SecretPath = dir })
	check(t, os.RemoveAll(dir))
	err := g.Connect(t.Context())
	wantKind(t, err, Credentials)
	if v.Calls()["Login"] != 0 {
		t.Error("logged in without credentials")
	}
	check(t, v.WriteSecret(dir))
	check(t, g.Connect(t.Context()))
}

func TestKeepAliveTouchesBothSessions(t *testing.T) {
	v := simulated(t, small())
	g := gateway(t, v, func(c *Config) { c.KeepAlive = 20 * time.Millisecond })
	check(t, g.Connect(t.Context()))
	v.ResetCalls()
	eventually(t, "both sessions are touched", func() bool {
		c := v.Calls()
		return c["CurrentTime"] > 1 && c["REST GET /com/vmware/cis/tagging/tag"] > 1
	})
	check(t, v.TerminateSessions())
	v.ResetCalls()
	eventually(t, "the keep-alive logs in again", func() bool { return v.Calls()["Login"] == 1 })
}

func TestConcurrentCallsAreLimited(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 30, Tagged: 30})
	v.SetLatency(5 * time.Millisecond)
	v.ResetCalls()
	var group sync.WaitGroup
	for _, ref := range taggedRefs(v) {
		group.Go(func() {
			if _, err := g.PowerOff(t.Context(), ref); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := v.MaxConcurrent(); n > DefaultMaxConcurrentCalls || n < 2 {
		t.Errorf("%d calls at once", n)
	}
}

func TestWaitsLeaveHalfOfTheLimit(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range 6 {
		group.Go(func() { _ = g.AwaitOff(ctx, []Wait{{VM: refs[0]}}, func(_ ref, _ WaitResult) {}) })
	}
	eventually(t, "two wait", func() bool { g.limit.mu.Lock(); defer g.limit.mu.Unlock(); return g.limit.polls == 2 })
	start := time.Now()
	for range 5 {
		_, err := g.ServerTime(t.Context())
		check(t, err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("5 calls took %v beside the waits", d)
	}
}

func TestCancelledCallsReturnAtOnce(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	v.SetLatency(time.Minute)
	t.Cleanup(func() { v.SetLatency(0) })
	calls := map[string]func(context.Context) error{
		"Candidates": func(ctx context.Context) error { _, err := g.Candidates(ctx, "preemptible", Scope{}); return err },
		"Recheck":    func(ctx context.Context) error { _, err := g.Recheck(ctx, "preemptible", refs); return err },
		"PowerOff":   func(ctx context.Context) error { _, err := g.PowerOff(ctx, refs[0]); return err },
		"Annotate":   func(ctx context.Context) error { return g.Annotate(ctx, refs[0], "k", "v") },
		"AwaitOff":   func(ctx context.Context) error { return g.AwaitOff(ctx, []Wait{{VM: refs[0]}}, nil) },
		"Evidence":   func(ctx context.Context) error { _, err := g.PowerOffEvidence(ctx, refs, time.Now()); return err },
	}
	for name, f := range calls {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			start := time.Now()
			err := f(ctx)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	}
}

func TestAHangingVCenterIsUnavailable(t *testing.T) {
	v := simulated(t, small())
	g := gateway(t, v, func(c *Config) { c.CallTimeout = 300 * time.Millisecond })
	check(t, g.Connect(t.Context()))
	v.SetLatency(time.Minute)
	t.Cleanup(func() { v.SetLatency(0) })
	_, err := g.ServerTime(t.Context())
	wantKind(t, err, Unavailable)
	if errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "300ms") {
		t.Errorf("%v is not the caller's time limit", err)
	}
}

func TestNoSecretInErrorsOrLogs(t *testing.T) {
	v := simulated(t, small())
	var log logBuffer
	g := gateway(t, v, func(c *Config) { c.Logger = log.logger(); c.Thumbprint = ""; c.Insecure = true })
	check(t, g.Connect(t.Context()))
	v.FailCall("CurrentTime", nil, &types.NoPermission{}, 1)
	_, err := g.ServerTime(t.Context())
	wantKind(t, err, NoPermission)
	v.Outage()
	outage := g.Connect(t.Context())
	wantKind(t, outage, Unavailable)
	session, _, _ := g.restSlot.peek()
	cookie := session.SessionID()
	for _, text := range []string{err.Error(), outage.Error(), log.String()} {
		if strings.Contains(text, v.Password()) || strings.Contains(text, cookie) {
			t.Errorf("%q shows a secret", text)
		}
	}
	if !strings.Contains(log.String(), "logged in to vCenter") {
		t.Error("the login is not logged")
	}
}
