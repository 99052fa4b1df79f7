package config

import (
	"testing"
	"time"
)

func TestTheShippedExampleIsValidAndGivesNoticeToAllButTheMostUrgent(t *testing.T) {
	f, err := ReadFile("../../docs/preemption.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := f.Policies[DefaultPolicy].Criticality
	if c.High.Notice != 0 || c.Medium.Notice.D() != 2*time.Minute || c.Low.Notice.D() != 2*time.Minute {
		t.Errorf("notices: %s, %s, %s", c.High.Notice, c.Medium.Notice, c.Low.Notice)
	}
	if p := f.Policies[DefaultPolicy]; len(f.Rules) != 8 || f.Mode != "observe" || p.Mode != "observe" {
		t.Errorf("%d rules, mode %q, of the policy %q", len(f.Rules), f.Mode, p.Mode)
	}
}
