package vcenter

import (
	"strings"
	"testing"
)

func TestAMisspeltTagNamesThoseThatWerePerhapsMeant(t *testing.T) {
	v, g := warm(t, small())
	check(t, v.CreateTag("team-a", "spot"))
	check(t, g.RefreshTags(t.Context()))
	for tag, want := range map[string]string{
		"preemptable": "did you mean preemptible? Else check the spelling",
		"Preemptible": "did you mean preemptible?",
		"team-a:spt":  "spot?",
		"qqqqqqqqqqq": "vCenter has no such tag; check the spelling",
		"":            "; check the spelling",
	} {
		_, err := g.Candidates(t.Context(), tag, Scope{})
		wantKind(t, err, TagNotFound)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", tag, err, want)
		}
	}
}
