package simulation_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func TestAnOutageAnswers503UntilItIsOver(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	v.ResetCalls()
	v.Outage()
	for range 2 {
		if err := now(t, c); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("during the outage: %v", err)
		}
	}
	v.Recover()
	must(t, now(t, c))
	if calls := v.Calls(); calls["HTTP 503"] != 2 || calls["CurrentTime"] != 1 {
		t.Errorf("calls %v", calls)
	}
}

func TestDroppedConnectionsComeBack(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	v.DropConnections()
	if now(t, c) == nil {
		t.Error("a call gets through")
	}
	v.Recover()
	must(t, now(t, c))
	if !alive(t, c) {
		t.Error("the session is gone")
	}
}

func TestTerminatedSessionsAreGoneAndTheModelLives(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	r := loginREST(t, v, c)
	must(t, v.SetPowerState(ref, off))
	must(t, v.TerminateSessions())
	if err := now(t, c); !isFault[*types.NotAuthenticated](err) {
		t.Errorf("SOAP: %v", err)
	}
	if _, err := tags.NewManager(r).ListTags(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("REST: %v", err)
	}
	login(t, v)
	loginREST(t, v, c)
	if v.PowerState(ref) != off {
		t.Error("the model forgot")
	}
}

func TestARestartKeepsThePortAndTheModelButNoSession(t *testing.T) {
	v := start(t, small())
	c, ref, address := login(t, v), v.VM("cluster-a-batch-01"), v.URL()
	must(t, powerOff(t, c, ref))
	must(t, v.Stop())
	if now(t, c) == nil {
		t.Error("it serves while stopped")
	}
	must(t, v.Restart())
	if v.URL() != address {
		t.Errorf("it moved from %s to %s", address, v.URL())
	}
	if err := now(t, c); !isFault[*types.NotAuthenticated](err) {
		t.Errorf("with the old session: %v", err)
	}
	if c := login(t, v); now(t, c) != nil || v.PowerState(ref) != off {
		t.Error("it does not work after the restart")
	}
}

func TestMoreSessionsMayEndThanCollectorsMayBeOpen(t *testing.T) {
	v := start(t, small())
	for range 5 {
		c := login(t, v)
		for range 10 { // left open, as by a program that crashes
			_, err := methods.CreateCollectorForEvents(t.Context(), c, &types.CreateCollectorForEvents{This: *c.ServiceContent.EventManager})
			must(t, err)
		}
		must(t, v.TerminateSessions())
	}
}

// waitForever waits for a change of the VM that never comes and reports how the wait ended.
func waitForever(ctx context.Context, t testing.TB, c *vim25.Client, ref types.ManagedObjectReference) <-chan error {
	t.Helper()
	waiting, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var once sync.Once
		ended <- property.Wait(ctx, property.DefaultCollector(c), ref, []string{"name"}, func([]types.PropertyChange) bool {
			once.Do(func() { close(waiting) })
			return false
		})
	}()
	<-waiting
	return ended
}

func TestWaitsEndWithTheirSession(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	ended := waitForever(t.Context(), t, c, v.VM("cluster-a-batch-01"))
	eventually(t, "the second wait has begun", func() bool { return v.Calls()["WaitForUpdatesEx"] >= 2 })
	must(t, v.TerminateSessions())
	select {
	case err := <-ended:
		if !isFault[*types.NotAuthenticated](err) {
			t.Errorf("the wait ended in %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the wait goes on")
	}
}

func TestWaitsEndWithAnOutageAndWithTheirClient(t *testing.T) {
	v := start(t, small())
	ctx, cancel := context.WithCancel(t.Context())
	gone := waitForever(ctx, t, login(t, v), v.VM("cluster-a-batch-01"))
	cut := waitForever(t.Context(), t, login(t, v), v.VM("cluster-a-batch-02"))
	eventually(t, "both wait", func() bool { return v.Calls()["WaitForUpdatesEx"] >= 4 })
	cancel()
	v.Outage()
	for name, ended := range map[string]<-chan error{"the client's": gone, "the outage's": cut} {
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s wait succeeds", name)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s wait goes on", name)
		}
	}
	v.Close() // returns only when the simulator serves nothing any more
}

func TestIdleSessionsEndAndOthersGoOn(t *testing.T) {
	v := start(t, small())
	idle, busy := login(t, v), login(t, v)
	gone := waitForever(t.Context(), t, idle, v.VM("cluster-a-batch-01"))
	eventually(t, "it waits", func() bool { return v.Calls()["WaitForUpdatesEx"] >= 2 })
	time.Sleep(time.Second)
	if _, err := methods.GetCurrentTime(t.Context(), busy); err != nil {
		t.Fatal(err)
	}
	v.EndIdleSessions(500 * time.Millisecond)
	if _, err := methods.GetCurrentTime(t.Context(), busy); err != nil {
		t.Errorf("a session in use has ended: %v", err)
	}
	if _, err := methods.GetCurrentTime(t.Context(), idle); !isFault[*types.NotAuthenticated](err) {
		t.Errorf("an idle session goes on: %v", err)
	}
	v.Close()
	<-gone
}
