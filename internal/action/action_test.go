package action

import (
	"strings"
	"testing"
)

func TestTheTableKnowsEachAction(t *testing.T) {
	for _, name := range All() {
		row, err := Of(name)
		if err != nil {
			t.Fatal(err)
		}
		if row.Words == "" || row.Call == "" || row.Event == "" || len(row.Action.Undo()) == 0 || len(row.Privileges) == 0 || !row.Cut.Ours() {
			t.Errorf("the row of %s is not complete: %+v", name, row)
		}
		if a, ok := Would(row.Action).Would(); !ok || a != row.Action {
			t.Errorf("what would be done is not read back: %s, %v", a, ok)
		}
	}
}

func TestEachOutcomeIsKnown(t *testing.T) {
	for _, o := range Outcomes() {
		if _, ok := ours[o]; !ok {
			t.Errorf("nobody said whose %s is", o)
		}
		if _, ok := o.Would(); ok || o.Words() == "" {
			t.Errorf("the words of %s are %q", o, o.Words())
		}
	}
	if len(ours) != len(Outcomes()) {
		t.Errorf("%d outcomes are listed, and %d are somebody's", len(Outcomes()), len(ours))
	}
}

func TestAnUnknownActionForcesClaimsAndChangesNothing(t *testing.T) {
	const hibernate = Action("hibernate")
	if _, err := Of(hibernate); err == nil || !strings.Contains(err.Error(), "hibernate") {
		t.Errorf("its error is %v", err)
	}
	if o, forced := hibernate.Cut(true); o.Ours() || forced {
		t.Errorf("it claims %s", o)
	}
	if hibernate.AtOnce() || hibernate.Changeable() || len(hibernate.Privileges()) > 0 || len(hibernate.Undo()) > 0 {
		t.Error("it does something")
	}
	if Outcome("hibernated").Ours() {
		t.Error("an unknown outcome is ours")
	}
}

func TestWhatACallOfOursMakesOfAVM(t *testing.T) {
	for name, c := range map[string]struct {
		action Action
		asked  bool
		want   Outcome
		forced bool
	}{
		"a power-off":                          {PowerOff, false, PoweredOff, true},
		"a power-off after a guest was asked":  {PowerOff, true, Forced, true},
		"a guest without tools":                {ShutdownGuest, false, Forced, true},
		"a suspension":                         {Suspend, false, Suspended, false},
		"a suspension after a guest was asked": {Suspend, true, Suspended, false},
		"a throttle":                           {Throttle, false, Throttled, false},
	} {
		if got, forced := c.action.Cut(c.asked); got != c.want || forced != c.forced {
			t.Errorf("%s: %s, forced %v", name, got, forced)
		}
	}
	if !Throttle.StaysOn() || PowerOff.StaysOn() || ShutdownGuest.StaysOn() || Suspend.StaysOn() {
		t.Error("a throttle leaves the VM on, and nothing else does")
	}
	if Throttle.AtOnce() {
		t.Error("a rise or fall to a throttle would cut the power of guests that were asked to shut down")
	}
	if ByEvent("VmReconfiguredEvent", false) != Throttled {
		t.Error("a reconfiguration proves something else")
	}
	if ByEvent("VmSuspendedEvent", false) != Suspended || ByEvent("VmPoweredOffEvent", true) != ShutDown || ByEvent("VmPoweredOffEvent", false) != PoweredOff {
		t.Error("events prove something else")
	}
}
