package cli_test

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

// workflowsOf are the ids that list prints.
func workflowsOf(t *testing.T, o outcome) (ids []string) {
	t.Helper()
	o.want(t, 0, "stdout")
	for _, w := range decode[[]struct {
		WorkflowID string `json:"workflowID"`
	}](t, o.stdout) {
		ids = append(ids, w.WorkflowID)
	}
	return ids
}

func TestListShowsWhatItsFiltersChoose(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	s.run("workflow", "run", "-w", s.id(), "-t", "filtered", "--wait").want(t, 0, "stdout", "web-1")
	s.run("workflow", "run", "-w", s.id()+"-b", "-t", "partial", "--wait").want(t, 1, "stdout", "web-1")
	rounds := map[string]string{}
	list := func(args ...string) outcome {
		return s.run(append([]string{"workflow", "list", "--limit", "1000", "-o", "json"}, args...)...)
	}
	eventually(t, "both rounds are in the list", func() bool {
		for _, e := range decode[struct {
			Entries []struct{ ID, Tag string } `json:"entries"`
		}](t, s.run("history", "-o", "json").stdout).Entries {
			rounds[e.Tag] = e.ID
		}
		return rounds["filtered"] != "" && rounds["partial"] != "" && slices.Contains(workflowsOf(t, list()), s.id())
	})
	for name, c := range map[string]struct {
		args        []string
		has, hasNot []string
	}{
		"by cluster's name":   {[]string{"--cluster", "cluster-a"}, []string{rounds["filtered"]}, []string{rounds["partial"]}},
		"by cluster's MoRef":  {[]string{"--cluster", "domain-c7"}, []string{rounds["filtered"]}, []string{rounds["partial"]}},
		"by the name it has":  {[]string{"--cluster", "west"}, []string{rounds["filtered"]}, []string{rounds["partial"]}},
		"by alarm":            {[]string{"--alarm", "cpu-above-80"}, []string{rounds["filtered"]}, []string{rounds["partial"], s.id()}},
		"by VM":               {[]string{"--vm", "WEB-1"}, []string{rounds["filtered"], rounds["partial"]}, []string{s.id()}},
		"by VM and state":     {[]string{"--vm", "vm-1", "--state", "partial"}, []string{rounds["partial"]}, []string{rounds["filtered"]}},
		"by another VM":       {[]string{"--vm", "web-77"}, nil, []string{rounds["filtered"], rounds["partial"], s.id()}},
		"what ended long ago": {[]string{"--since", "1h"}, []string{rounds["filtered"], s.id()}, nil},
		"what is to come":     {[]string{"--since", time.Now().Add(time.Hour).Format(time.RFC3339)}, []string{s.id()}, []string{rounds["filtered"]}},
	} {
		got := workflowsOf(t, list(c.args...))
		for _, id := range c.has {
			if !slices.Contains(got, id) {
				t.Errorf("%s: %s is missing in %q", name, id, got)
			}
		}
		for _, id := range c.hasNot {
			if slices.Contains(got, id) {
				t.Errorf("%s: %s is in %q", name, id, got)
			}
		}
	}
	s.run("history", "--alarm", "cpu-above-8").want(t, 0, "stderr", "did you mean cpu-above-80?")
	s.run("workflow", "list", "--vm", "web-1", "--state", "timed_out").want(t, 0, "stderr", "nothing that is kept is as all these flags say")
	s.run("workflow", "list", "--vm", "misspelt").want(t, 3, "stderr", "did you mean web-1?")
}

func TestAStateThatThereIsNotIsWrongUsage(t *testing.T) {
	t.Parallel()
	for _, cmd := range [][]string{{"workflow", "list"}, {"history"}} {
		preemptctl(t, cli.Options{}, append(cmd, "--state", "complete")...).
			want(t, 2, "stderr", `--state "complete" is not one of acting, `, "withdrawn", "did you mean completed?")
	}
	preemptctl(t, cli.Options{}, "__complete", "workflow", "list", "--state", "with").want(t, 0, "stdout", "withdrawn\n")
	preemptctl(t, cli.Options{}, "history", "--kind", "rounds").want(t, 2, "stderr", "did you mean round?")
}

func TestTheListFitsTheTerminalAndIsWholeInAPipe(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	s.run("workflow", "run", "-w", s.id(), "-t", "filtered", "--wait").want(t, 0, "stdout", "web-1")
	eventually(t, "it is in the list", func() bool { return strings.Contains(s.run("workflow", "list", "--limit", "1000").stdout, s.id()) })
	for _, width := range []int{60, 80, 100, 200} {
		for _, args := range [][]string{{"workflow", "list"}, {"history"}, {"workflow", "status", "-w", s.id()}, {"workflow", "plan"}} {
			o := preemptctl(t, cli.Options{Width: width}, append(args, "-s", s.address, "-q", s.queue)...)
			o.want(t, 0, "stdout")
			headed := false
			for line := range strings.Lines(o.stdout) {
				line = strings.TrimRight(line, " \n")
				headed = line != "" && (headed || line == strings.ToUpper(line) && !strings.Contains(line, ":"))
				if n := utf8.RuneCountInString(line); headed && n > width {
					t.Errorf("%q at width %d: a line of %d:\n%s", args, width, n, o.stdout)
					break
				}
			}
		}
	}
	narrow := preemptctl(t, cli.Options{Width: 60}, "workflow", "list", "-s", s.address, "-q", s.queue)
	narrow.want(t, 0, "stdout", "WORKFLOW", "STATE", "…")
	narrow.want(t, 0, "stderr", "-o json shows all")
	piped := s.run("workflow", "list", "--limit", "1000")
	piped.want(t, 0, "stdout", "RUN", "CLOSED", s.id())
	if strings.Contains(piped.stdout, "…") || strings.Contains(piped.stderr, "cut to fit") {
		t.Errorf("a pipe gets less than all:\n%s", piped.stdout)
	}
}

func TestWhatWasPerhapsMeantIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"workflow", "run", "--crticality", "HIGH"}, "unknown flag: --crticality; did you mean --criticality?"},
		{[]string{"workflow", "list", "--clustr", "a"}, "did you mean --cluster?"},
		{[]string{"history", "--sice", "1h"}, "did you mean --since"},
		{[]string{"explain", "web-1", "--namespce", "x"}, "did you mean --namespace?"},
		{[]string{"workflw", "run"}, `unknown command "workflw" for "preemptctl"; did you mean workflow?`},
		{[]string{"list"}, `unknown command "list" for "preemptctl"; did you mean pause list or remediation list or schedule list or spare list or workflow list?`},
		{[]string{"list", "--since", "1h"}, `unknown command "list" for "preemptctl"; did you mean `},
		{[]string{"workflow", "stats"}, "did you mean status?"},
		{[]string{"pause", "lst"}, `unknown command "lst" for "preemptctl pause"; did you mean list?`},
		{[]string{"remediation", "shw"}, "did you mean show?"},
		{[]string{"workflow", "plan", "--qqqqqqqqqqqq"}, "unknown flag: --qqqqqqqqqqqq"},
	} {
		preemptctl(t, cli.Options{}, c.args...).want(t, 2, "stderr", "Error: ", c.says)
	}
}
