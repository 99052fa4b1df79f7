package config

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

const (
	cookbookPage  = "../../docs/cookbook.md"
	cookbookFiles = "../../docs/cookbook/*.yaml"
)

// A file that policy check refuses or warns of would be copied as it is. Contradictions between rules and limits are
// errors of ReadFile, and rules that are never reached are warnings.
func TestTheFilesOfTheCookbookAreValid(t *testing.T) {
	files, err := filepath.Glob(cookbookFiles)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file matches %s (%v)", cookbookFiles, err)
	}
	page, err := os.ReadFile(cookbookPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		base := filepath.Base(name)
		t.Run(base, func(t *testing.T) {
			f, err := ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range f.Warnings {
				t.Error(w)
			}
			if f.Mode != policy.ModeObserve {
				t.Errorf("mode is %q: a file to copy starts with %q", f.Mode, policy.ModeObserve)
			}
			if len(f.Limits.AllowedTags) == 0 || !slices.Equal(f.Tags(), slices.Sorted(slices.Values(f.Limits.AllowedTags))) {
				t.Errorf("the file names the tags %q, and allows %q", f.Tags(), f.Limits.AllowedTags)
			}
			section := cookbookSection(string(page), base)
			if section == "" {
				t.Fatalf("%s has no section with a link to cookbook/%s", cookbookPage, base)
			}
			sectionFits(t, section, f)
		})
	}
}

// cookbookSection returns the section of the page that links the file, "" where there is none. What comes before the
// first section links all of them.
func cookbookSection(page, file string) string {
	for i, section := range strings.Split(page, "\n## ") {
		if i > 0 && strings.Contains(section, "(cookbook/"+file+")") {
			return section
		}
	}
	return ""
}

var cookbookFlags = regexp.MustCompile(`--(tag|policy|alarm) ([\w-]+)`)

// sectionFits checks the commands of the section: their tags, policies and alarms are those of the file, and each
// policy of the file is used by a rule or by a command. The page gives a file without rules one to rehearse with.
func sectionFits(t *testing.T, section string, f File) {
	t.Helper()
	used := map[string]bool{DefaultPolicy: true}
	var alarms []trigger.Rule
	for _, r := range f.Rules {
		if p, ok := r.Action.(trigger.Preempt); ok {
			used[p.Policy] = true
			alarms = append(alarms, r)
		}
	}
	for _, m := range cookbookFlags.FindAllStringSubmatch(section, -1) {
		flag, value := m[1], m[2]
		switch flag {
		case "tag":
			if !slices.Contains(f.Limits.AllowedTags, value) {
				t.Errorf("a command has %q, and the file allows the tags %q", m[0], f.Limits.AllowedTags)
			}
		case "policy":
			if _, ok := f.Policies[value]; !ok {
				t.Errorf("a command has %q, and the file has the policies %q", m[0], slices.Sorted(maps.Keys(f.Policies)))
			}
			used[value] = true
		case "alarm":
			e := alarm.Event{Class: alarm.ClassAlarm, Alarm: alarm.Alarm{Name: value}}
			if len(alarms) > 0 && !slices.ContainsFunc(alarms, func(r trigger.Rule) bool { return r.Matches(e) }) {
				t.Errorf("a command has %q, and no rule of the file is on that alarm", m[0])
			}
		}
	}
	for name := range f.Policies {
		if !used[name] {
			t.Errorf("no rule and no command uses the policy %q", name)
		}
	}
}
