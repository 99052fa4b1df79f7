package standalone

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// score counts what a scenario has shown and checked.
type score struct {
	rounds, rooms int
	preempted     int  // VMs
	restored      int  // of them, those that are on again
	returns       bool // whether they are to come back is part of it
}

// verdict is the last line of a run that ends by itself: whether all was as it should be, or what was not and where to look.
func verdict(s score, err error, interrupted bool) string {
	switch {
	case interrupted && err != nil:
		return "verdict: FAIL: it was interrupted before the scenario had ended; run it again"
	case err != nil:
		where := "the lines above say how far it came; run it again with DEBUG=true to see why"
		if errors.Is(err, errMismatch) {
			where = "the lines marked mismatch say which VMs"
		}
		return "verdict: FAIL: " + oneLine(err) + "; " + where
	case s.rounds == 0:
		return "verdict: PASS: nothing was to be preempted"
	}
	text := "verdict: PASS: " + shown.Count(s.rounds+s.rooms, "preemption")
	if s.rooms > 0 {
		text += fmt.Sprintf(" (%d for an alarm, %d for room)", s.rounds, s.rooms)
	}
	text += ", " + shown.Count(s.preempted, "VM") + " preempted"
	if s.returns {
		text += fmt.Sprintf(", %d of them restored", s.restored)
	}
	return text + ", every VM as reported"
}

// oneLine writes an error of several lines in one.
func oneLine(err error) string {
	return shown.Plain(strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; "))
}
