package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fakeMakeRoom decides one request, by the name of the VM that asks.
func fakeMakeRoom(ctx workflow.Context) (r preemptapi.RoomResult, err error) {
	var raw json.RawMessage
	workflow.GetSignalChannel(ctx, preemption.RoomSignal).Receive(ctx, &raw)
	var req preemption.RoomRequest
	if err := json.Unmarshal(raw, &req); err != nil {
		return r, err
	}
	o := preemptapi.RoomOutcome{RequestID: req.ID, For: req.Room.For, State: preemptapi.RoomWaiting, Reason: "another round is under way in the cluster: round-1"}
	r = preemptapi.RoomResult{WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID, Rooms: []preemptapi.RoomOutcome{o}}
	if err := workflow.SetQueryHandler(ctx, preemption.RoomStateQuery, func() (preemptapi.RoomResult, error) { return r, nil }); err != nil {
		return r, err
	}
	if err := workflow.Sleep(ctx, 700*time.Millisecond); err != nil {
		return r, err
	}
	o = preemptapi.RoomOutcome{
		RequestID: req.ID, For: req.Room.For, State: preemptapi.RoomRunning, HostName: "esx-1", Rounds: []string{"round-2"},
		Gone:     []preemptapi.VMOutcome{{Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-2"}, Name: "web-2", Outcome: "powered_off"}},
		Refusals: []string{"not enough memory"},
	}
	for i := range req.Room.Hosts {
		o.Hosts = append(o.Hosts, preemptapi.RoomHost{Name: fmt.Sprintf("esx-%d", i+1)})
	}
	switch {
	case req.Room.For == "huge":
		o = preemptapi.RoomOutcome{For: "huge", State: preemptapi.RoomRefused, Reason: "no host can take it"}
	case req.Room.For == "locked":
		o.State, o.Reason, o.RestoreID = preemptapi.RoomFailed, "vCenter does not power it on: its disk is locked", "restore@domain-c7"
	case !req.PowerOn:
		o.State, o.HeldUntil = preemptapi.RoomMade, time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	}
	r.Rooms = []preemptapi.RoomOutcome{o}
	return r, workflow.Sleep(ctx, time.Second)
}

func TestMakeRoomFollowsARequestToItsEnd(t *testing.T) {
	s := newSite(t, true)
	for name, c := range map[string]struct {
		args   []string
		code   int
		stream string
		says   []string
	}{
		"and shows each step":     {[]string{"--for", "db-1", "--power-on"}, 0, "stderr", []string{"waiting: another round is under way", "round round-2 is under way", "web-2 (vm-2): powered off", "so more VMs go: not enough memory"}},
		"and where it runs":       {[]string{"--for", "db-1", "--power-on"}, 0, "stdout", []string{"running", "esx-1", "web-2"}},
		"and until when it is":    {[]string{"--for", "db-1", "--hold", "30m"}, 0, "stdout", []string{"made", "held until"}},
		"and that on each host":   {[]string{"--cpus", "4", "--cluster", "domain-c7", "--hosts", "2"}, 0, "stdout", []string{"esx-1", "esx-2"}},
		"not for a VM on two":     {[]string{"--for", "db-1", "--hosts", "2"}, 2, "stderr", []string{"a VM runs on one host"}},
		"not on too many":         {[]string{"--cpus", "4", "--cluster", "domain-c7", "--hosts", "17"}, 2, "stderr", []string{"--hosts 17 is not within 1 to 16"}},
		"not on none":             {[]string{"--cpus", "4", "--cluster", "domain-c7", "--hosts", "0"}, 2, "stderr", []string{"--hosts 0 is not within 1 to 16"}},
		"as JSON":                 {[]string{"--for", "db-1", "--power-on", "-o", "json"}, 0, "stdout", []string{`"state": "running"`}},
		"to a refusal":            {[]string{"--for", "huge"}, 4, "stderr", []string{"no room for huge: no host can take it"}},
		"to a failure":            {[]string{"--for", "locked", "--power-on"}, 1, "stderr", []string{"no room for locked: vCenter does not power it on"}},
		"or does not wait":        {[]string{"--for", "db-1", "--wait=false"}, 0, "stdout", []string{"next", "workflow status --workflow-id make-room@"}},
		"or only plans":           {[]string{"--for", "db-1", "--dry-run"}, 0, "stdout", []string{"on esx-1, once the VMs below are off"}},
		"by sizes in a cluster":   {[]string{"--cpus", "4", "--memory", "8GiB", "--cluster", "domain-c7"}, 0, "stdout", []string{"made"}},
		"for nobody":              {nil, 2, "stderr", []string{"say for whom"}},
		"for a VM and sizes":      {[]string{"--for", "db-1", "--cpus", "2"}, 2, "stderr", []string{"--for takes the sizes"}},
		"for no CPUs":             {[]string{"--cpus", "0", "--cluster", "domain-c7"}, 2, "stderr", []string{"--cpus 0 is not positive"}},
		"sizes without cluster":   {[]string{"--cpus", "2"}, 2, "stderr", []string{"need --cluster"}},
		"sizes that are to run":   {[]string{"--cpus", "2", "--cluster", "domain-c7", "--power-on"}, 2, "stderr", []string{"--power-on needs --for"}},
		"held though it runs":     {[]string{"--for", "db-1", "--power-on", "--hold", "1h"}, 2, "stderr", []string{"leave it out with --power-on"}},
		"held for days":           {[]string{"--for", "db-1", "--hold", "48h"}, 2, "stderr", []string{"--hold 48h0m0s is not within"}},
		"a negative wait":         {[]string{"--for", "db-1", "--busy-wait", "-1s"}, 2, "stderr", []string{"--busy-wait -1s is not within"}},
		"a size without a unit":   {[]string{"--memory", "8", "--cluster", "domain-c7"}, 2, "stderr", []string{`"8" has no unit`}},
		"time-out without a wait": {[]string{"--for", "db-1", "--wait=false", "--timeout", "1s"}, 2, "stderr", []string{"--timeout needs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.run(append([]string{"make-room"}, c.args...)...).want(t, c.code, c.stream, c.says...)
		})
	}
}

func TestStatusShowsWhoAskedForRoom(t *testing.T) {
	s := newSite(t, true)
	got := s.run("make-room", "--for", "db-1", "--wait=false", "-o", "json")
	var asked struct{ WorkflowID string }
	if err := json.Unmarshal([]byte(got.stdout), &asked); err != nil || !strings.HasPrefix(asked.WorkflowID, "make-room@") {
		t.Fatalf("%v: %+v", err, got)
	}
	s.run("workflow", "status", "-w", asked.WorkflowID).want(t, 0, "stdout", "db-1", "waiting", "another round is under way")
	s.run("workflow", "list").want(t, 0, "stdout", asked.WorkflowID)
}
