package e2e

import (
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestATypoOnTheCommandLineStartsNothingAndIsNoIncident(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	s.Polling()
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"a tag of run":         {[]string{"workflow", "run", "-w", s.ID("cli"), "--tag", "nosuch"}, 3, "nosuch"},
		"a tag of run, waited": {[]string{"workflow", "run", "-w", s.ID("cli"), "--tag", "nosuch", "--wait"}, 3, "nosuch"},
		"a tag of a plan":      {[]string{"workflow", "plan", "--tag", "nosuch"}, 3, "nosuch"},
		"a VM of evict":        {[]string{"evict", "nosuch"}, 3, "no such VM"},
		"a VM of restore":      {[]string{"restore", "nosuch"}, 3, "no such VM"},
		"a cluster of restore": {[]string{"restore", "--cluster", "wrong"}, 3, "wrong"},
		"an empty cluster":     {[]string{"restore", "--cluster", ""}, 2, "--cluster is empty"},
	} {
		if code, out, errs := s.Typed(c.args...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d, want %d\n%s%s", name, code, c.code, out, errs)
		}
	}
	if rounds := s.Rounds(); len(rounds) != 0 {
		t.Errorf("rounds were started: %v", rounds)
	}
	if n := s.OffIn(""); n != 0 {
		t.Errorf("%d VMs are off", n)
	}
}
