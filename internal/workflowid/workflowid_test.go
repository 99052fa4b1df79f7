package workflowid_test

import (
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

func TestIdsOfAlarmsArePlainWhereTheirNamesAre(t *testing.T) {
	for name, want := range map[string]string{
		"cluster-cpu-above-80":  "cluster-cpu-above-80@domain-c7",
		"CPU 80%":               "CPU 80%@domain-c7",
		"a%2fb%25c":             "a%2fb%25c@domain-c7",
		"CPU über 80 % – прод":  "CPU %C3%BCber 80 % %E2%80%93 %D0%BF%D1%80%D0%BE%D0%B4@domain-c7",
		"literally %C3%BC":      "literally %25C3%25BC@domain-c7",
		"restore":               "%72estore@domain-c7",
		"%72estore":             "%2572estore@domain-c7",
		"%2572estore":           "%252572estore@domain-c7",
		"evict":                 "%65vict@domain-c7",
		"preemption-ledger":     "%70reemption-ledger@domain-c7",
		"round-0123456789ab-x":  "%72ound-0123456789ab-x@domain-c7",
		"round-robin":           "round-robin@domain-c7",
		"restore@site":          "%72estore@site@domain-c7",
		"a\nb\x7f":              "a%0Ab%7F@domain-c7",
		"preemption-plan-small": "%70reemption-plan-small@domain-c7",
	} {
		if got := workflowid.Intake(name, "domain-c7"); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	if got := workflowid.Intake("cpu", ""); got != "cpu@all" {
		t.Error(got)
	}
}

func TestALongNameKeepsItsScopeAndIsToldApart(t *testing.T) {
	long := strings.Repeat("ü", 150)
	a, b := workflowid.Intake(long, "domain-c7"), workflowid.Intake(long+"x", "domain-c7")
	if a == b || len(a) >= workflowid.Max || !strings.HasSuffix(a, "@domain-c7") || !strings.HasPrefix(a, "%C3%BC") {
		t.Errorf("%s\n%s", a, b)
	}
	if got := workflowid.Of(long + "@domain-c7"); got != a {
		t.Errorf("what a person names is %s, want %s", got, a)
	}
}

func TestReservedIdsAreKnown(t *testing.T) {
	for id, want := range map[string]bool{
		"preemption-ledger@q": true, "vcenter-watch@q": true, "restore@domain-c7": true, "resize@vm-1": true, "reconfigure@vm-1": true,
		"move@datastore-1": true, "reconcile@all": true, "handover@cpu@all": true, "preemption-plan-1": true, "round-0123456789ab-cpu@domain-c7": true,
		"preempctl-run": false, "cpu@domain-c7": false, "evict@web-1": false, "round-robin": false, "round-0123456789ag-x": false, "%72estore@domain-c7": false,
	} {
		if what, got := workflowid.Reserved(id); got != want || got && what == "" {
			t.Errorf("%s: %t (%s)", id, got, what)
		}
	}
}

func TestRoomInAClusterHasOneWorkflowForEachVCenter(t *testing.T) {
	long := strings.Repeat("q", 300)
	for _, c := range []struct{ scope, queue, want string }{
		{"domain-c7", "", "make-room@domain-c7"},
		{"domain-c7", preemption.DefaultTaskQueue, "make-room@domain-c7"},
		{"domain-c7", "site-b", "make-room@domain-c7@site-b"},
		{"", "", "make-room@all"},
		{"", "site-b", "make-room@all@site-b"},
		{"domain-c7", "sité", "make-room@domain-c7@sit%C3%A9"},
	} {
		if got := workflowid.Room(c.scope, c.queue); got != c.want {
			t.Errorf("%q on %q: %s, want %s", c.scope, c.queue, got, c.want)
		}
	}
	a, b := workflowid.Room("domain-c7", long), workflowid.Room("domain-c7", long+"x")
	if a == b || len(a) >= workflowid.Max {
		t.Errorf("%s\n%s", a, b)
	}
	if what, ok := workflowid.Reserved(a); !ok || what != "rooms" {
		t.Errorf("%s is no id of ours: %q", a, what)
	}
}

func FuzzIds(f *testing.F) {
	f.Add("CPU über 80 %", "restore")
	f.Add("%C3%BC", "ü")
	f.Add("%25C3", "%C3")
	f.Add(strings.Repeat("n", 300), "\x00")
	f.Add("%72estore", "restore")
	f.Fuzz(func(t *testing.T, a, b string) {
		one, other := workflowid.Intake(a, "domain-c7"), workflowid.Intake(b, "domain-c7")
		if a != b && one == other {
			t.Errorf("%q and %q share the id %s", a, b, one)
		}
		for _, id := range []string{one, workflowid.Of(a), workflowid.Of(b)} {
			if len(id) >= workflowid.Max || strings.IndexFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
				t.Errorf("%q is no id", id)
			}
			if again := workflowid.Of(id); again != id {
				t.Errorf("%s becomes %s", id, again)
			}
		}
		if what, reserved := workflowid.Reserved(one); reserved || strings.HasPrefix(one, workflowid.Evict) {
			t.Errorf("alarm %q gets the id %s of %s", a, one, what)
		}
	})
}
