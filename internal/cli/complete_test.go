package cli_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

// completions are the words that the shell is offered, without what is said about them.
func completions(t *testing.T, o outcome) (words []string) {
	t.Helper()
	o.want(t, 0, "stdout", ":4") // no names of files
	for line := range strings.Lines(o.stdout) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, ":") {
			word, _, _ := strings.Cut(line, "\t")
			words = append(words, word)
		}
	}
	return words
}

// complete asks what may come after a command line; the last word is what is typed so far.
func (s *site) complete(words ...string) outcome {
	s.t.Helper()
	last := len(words) - 1
	args := slices.Concat([]string{"__complete"}, words[:last], []string{"-s", s.address, "-q", s.queue}, words[last:])
	if strings.HasPrefix(words[max(last-1, 0)], "--") { // its value comes right behind a flag
		args = slices.Concat([]string{"__complete"}, words[:last-1], []string{"-s", s.address, "-q", s.queue}, words[last-1:])
	}
	return preemptctl(s.t, cli.Options{}, args...)
}

func TestNamesAreCompleted(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	s.run("workflow", "run", "-w", s.id(), "-t", "filtered", "--wait").want(t, 0, "stdout", "web-1")
	s.run("schedule", "create", s.queue+"-a", "--every", "1h").want(t, 0, "stdout")
	eventually(t, "the record has the round", func() bool {
		return slices.Contains(completions(t, s.complete("explain", "web-")), "web-1") &&
			slices.Contains(completions(t, s.complete("schedule", "pause", s.queue)), s.queue+"-a")
	})
	for name, c := range map[string]struct {
		words       []string
		has, hasNot []string
	}{
		"a VM of a round":            {[]string{"explain", "WEB-"}, []string{"web-1", "web-2"}, []string{"app-1"}},
		"a VM of vCenter":            {[]string{"evict", "a"}, []string{"app-1", "app-2"}, []string{"web-1"}},
		"a VM to spare":              {[]string{"spare", ""}, []string{"web-1", "app-1"}, []string{"bad\x1bname", "bad"}},
		"a VM's tags":                {[]string{"tags", "show", "app"}, []string{"app-1"}, nil},
		"another VM to restore":      {[]string{"restore", "web-1", "web-"}, []string{"web-2"}, []string{"web-1"}},
		"no second VM to explain":    {[]string{"explain", "web-1", "web-"}, nil, []string{"web-2"}},
		"a VM's history":             {[]string{"history", "--vm", "web-"}, []string{"web-1"}, nil},
		"a VM's workflows":           {[]string{"workflow", "list", "--vm", "web-"}, []string{"web-1"}, nil},
		"a VM that needs room":       {[]string{"make-room", "--for", "app"}, []string{"app-1"}, nil},
		"a VM to plan room for":      {[]string{"workflow", "plan", "--room-for", "app"}, []string{"app-1"}, nil},
		"a VM to remedy":             {[]string{"remediation", "run", "app"}, []string{"app-1"}, nil},
		"for how long, no VM":        {[]string{"pause", "--for", ""}, nil, []string{"web-1"}},
		"a cluster of the record":    {[]string{"history", "--cluster", "clus"}, []string{"cluster-a"}, nil},
		"a cluster of vCenter":       {[]string{"pause", "--cluster", ""}, []string{"west", "north east", "cluster-a"}, nil},
		"a cluster to plan for":      {[]string{"workflow", "plan", "--cluster", "w"}, []string{"west"}, []string{"cluster-a"}},
		"a datastore":                {[]string{"remediation", "plan", "--datastore", "vm"}, []string{"vmfs-1", "vmfs-2"}, nil},
		"an alarm":                   {[]string{"history", "--alarm", "cpu"}, []string{"cpu-above-80"}, nil},
		"a policy":                   {[]string{"workflow", "run", "--policy", ""}, []string{"default", "nightly"}, nil},
		"a criticality":              {[]string{"evict", "--criticality", ""}, []string{"LOW", "MEDIUM", "HIGH"}, nil},
		"a state":                    {[]string{"workflow", "list", "--state", "par"}, []string{"partial"}, nil},
		"a kind":                     {[]string{"history", "--kind", "ro"}, []string{"round", "room"}, nil},
		"an output format":           {[]string{"history", "--output", ""}, []string{"table", "json", "yaml"}, nil},
		"a workflow to see":          {[]string{"workflow", "status", "--workflow-id", ""}, []string{s.id()}, nil},
		"a workflow to cancel":       {[]string{"workflow", "cancel", "--workflow-id", "intake"}, []string{s.id()}, nil},
		"an intake to ask":           {[]string{"workflow", "run", "--workflow-id", "intake"}, []string{s.id()}, nil},
		"a workflow to repair":       {[]string{"workflow", "repair", "intake"}, []string{s.id()}, nil},
		"a schedule":                 {[]string{"schedule", "delete", s.queue}, []string{s.queue + "-a"}, nil},
		"nothing where nothing goes": {[]string{"history", ""}, nil, []string{"web-1"}},
	} {
		got := completions(t, s.complete(c.words...))
		for _, word := range c.has {
			if !slices.Contains(got, word) {
				t.Errorf("%s: %q lacks %q", name, got, word)
			}
		}
		for _, word := range c.hasNot {
			if slices.Contains(got, word) {
				t.Errorf("%s: %q has %q", name, got, word)
			}
		}
	}
	for line := range strings.Lines(s.complete("spare", "").stdout) {
		if strings.ContainsRune(line, '\x1b') {
			t.Errorf("a control character: %q", line)
		}
	}
}

func TestACompletionIsQuickAndSilentWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	nobody := newSite(t, false)
	for _, address := range []string{"127.0.0.1:1", "no-such-host.invalid:7233", nobody.address} {
		for _, words := range [][]string{{"explain", "w"}, {"history", "--cluster", "c"}, {"workflow", "status", "--workflow-id", "x-nobody"}, {"schedule", "run", "x-nobody"}} {
			s := *nobody
			s.address = address
			start := time.Now()
			got := s.complete(words...)
			if words := completions(t, got); len(words) > 0 {
				t.Errorf("%s offers %q", address, words)
			}
			if strings.Contains(got.stderr, "Error") || strings.Contains(got.stderr, "cannot") || strings.Count(got.stderr, "\n") > 1 {
				t.Errorf("%s says %q", address, got.stderr)
			}
			if took := time.Since(start); took > promised/2 {
				t.Errorf("%s takes %s", address, took)
			}
		}
	}
	preemptctl(t, cli.Options{Env: environment{"TEMPORAL_PROFILE": "nosuch"}}, "__complete", "explain", "w").want(t, 0, "stdout", ":4")
}

func TestEveryFlagThatTakesANameCompletesIt(t *testing.T) {
	t.Parallel()
	names := []string{"vm", "room-for", "attribute-on", "cluster", "alarm", "policy", "datastore", "workflow-id", "criticality", "state", "kind", "output"}
	for _, c := range cli.CommandLines() {
		for _, flag := range c.Flags {
			if slices.Contains(names, flag) && !slices.Contains(c.Complete, flag) {
				t.Errorf("preemptctl %s --%s completes nothing", strings.Join(c.Path, " "), flag)
			}
		}
	}
}
