package e2e

import (
	"strings"
	"testing"
)

func TestATypoOnTheCommandLineStartsNothingAndIsNoIncident(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	s.polling()
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"a tag of run":         {[]string{"workflow", "run", "-w", s.id("cli"), "--tag", "nosuch"}, 3, "nosuch"},
		"a tag of run, waited": {[]string{"workflow", "run", "-w", s.id("cli"), "--tag", "nosuch", "--wait"}, 3, "nosuch"},
		"a tag of a plan":      {[]string{"workflow", "plan", "--tag", "nosuch"}, 3, "nosuch"},
		"a VM of evict":        {[]string{"evict", "nosuch"}, 3, "no such VM"},
		"a VM of restore":      {[]string{"restore", "nosuch"}, 3, "no such VM"},
		"a cluster of restore": {[]string{"restore", "--cluster", "wrong"}, 3, "wrong"},
		"an empty cluster":     {[]string{"restore", "--cluster", ""}, 2, "--cluster is empty"},
	} {
		if code, out, errs := s.typed(c.args...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d, want %d\n%s%s", name, code, c.code, out, errs)
		}
	}
	if rounds := s.rounds(); len(rounds) != 0 {
		t.Errorf("rounds were started: %v", rounds)
	}
	if n := s.off(""); n != 0 {
		t.Errorf("%d VMs are off", n)
	}
}
