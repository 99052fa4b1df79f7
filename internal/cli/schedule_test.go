package cli_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/service/worker/scheduler"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

type scheduledRow struct {
	Name, ScheduleID, When, Cron, Every, TimeZone, Overlap, CatchUp, Jitter, PausedReason, Note string
	Tag, Criticality, Policy, ReplyTo, TaskQueue                                                string
	Next                                                                                        []time.Time
	Paused, DryRun, Reconciles                                                                  bool
	Runs, Skipped                                                                               int
	Running                                                                                     []string
	Last                                                                                        *struct{ WorkflowID, Status, Result string }
}

var lastSchedule atomic.Int64

// newSchedule is the name of a schedule that is gone when the test ends.
func (s *site) newSchedule() string {
	name := fmt.Sprintf("nightly_%d.a", lastSchedule.Add(1))
	s.t.Cleanup(func() { preemptctl(s.t, cli.Options{}, "schedule", "delete", name, "-s", s.address) })
	return name
}

// listed is the schedule as the list has it.
func (s *site) listed(name string) (row scheduledRow, ok bool) {
	s.t.Helper()
	got := s.run("schedule", "list", "-o", "json")
	got.want(s.t, 0, "stdout")
	for _, row := range decode[[]scheduledRow](s.t, got.stdout) {
		if row.Name == name {
			return row, true
		}
	}
	return row, false
}

// shows waits until the list has the schedule as it should be.
func (s *site) shows(name, what string, ok func(scheduledRow) bool) (row scheduledRow) {
	s.t.Helper()
	eventually(s.t, what, func() bool {
		var found bool
		row, found = s.listed(name)
		return found && ok(row)
	})
	return row
}

func (s *site) describe(name string) *client.ScheduleDescription {
	s.t.Helper()
	d, err := s.client.ScheduleClient().GetHandle(s.t.Context(), "preemption-"+name).Describe(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// The next times are worked out here where nothing is created; Temporal's own reckoning says whether rightly.
func TestADryRunRunsWhenTemporalWould(t *testing.T) {
	winter := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cases := map[string]struct {
		now        time.Time
		cron, zone string
	}{
		"every night":                        {winter, "0 22 * * *", "Europe/Berlin"},
		"a macro":                            {winter, "@weekly", "UTC"},
		"weekdays by name":                   {winter, "30 18 * * MON-FRI", "America/New_York"},
		"Sunday as 7":                        {winter, "0 6 * * 7", "UTC"},
		"until Sunday as 7":                  {winter, "0 6 * * 5-7", "UTC"},
		"every other day up to Sunday as 7":  {winter, "0 6 * * 1/2", "UTC"},
		"steps and lists":                    {winter, "*/20 1-9/4,22 * * *", "Asia/Tokyo"},
		"a number with a step":               {winter, "5/25 4 * * *", "UTC"},
		"both fields of the day":             {winter, "0 0 13 * Friday", "UTC"},
		"months by name":                     {winter, "0 12 1 mar,June *", "UTC"},
		"a leap day":                         {winter, "0 12 29 2 *", "UTC"},
		"the very minute":                    {winter.Truncate(time.Minute), "4 3 * * *", "UTC"},
		"a time that spring skips":           {time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), "30 2 * * *", "Europe/Berlin"},
		"a time that autumn repeats":         {time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC), "30 2 * * *", "Europe/Berlin"},
		"a midnight that spring skips":       {time.Date(2018, 11, 2, 0, 0, 0, 0, time.UTC), "0 0 * * *", "America/Sao_Paulo"},
		"a zone with half an hour of summer": {time.Date(2026, 10, 3, 0, 0, 0, 0, time.UTC), "15 2 * * *", "Australia/Lord_Howe"},
	}
	unlimited := func() int { return 0 }
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			spec := &schedulepb.ScheduleSpec{CronString: []string{c.cron}, TimezoneName: c.zone}
			oracle, err := scheduler.NewSpecBuilder(unlimited, unlimited).NewCompiledSpec(spec)
			if err != nil {
				t.Fatal(err)
			}
			got := preemptctl(t, optionsAt(c.now), "schedule", "create", "n", "--cron", c.cron, "--time-zone", c.zone, "--dry-run", "-o", "json")
			got.want(t, 0, "stdout")
			row := decode[scheduledRow](t, got.stdout)
			if !row.DryRun || len(row.Next) != 5 {
				t.Fatalf("unexpected result %+v", row)
			}
			for i, at := 0, c.now; i < 5; i++ {
				next, err := oracle.GetNextTime("", at)
				if err != nil {
					t.Fatal(err)
				}
				if at = next.Nominal; !row.Next[i].Equal(at) {
					t.Errorf("time %d is %s, want %s", i+1, row.Next[i], at.In(row.Next[i].Location()))
				}
			}
		})
	}
}

func TestWhenIsSaidInWords(t *testing.T) {
	cases := map[string]struct {
		args []string
		says []string
	}{
		"at":              {[]string{"--at", "22:00", "--time-zone", "Europe/Berlin"}, []string{"every day at 22:00", "Europe/Berlin", "runs        Fri 2026-01-02 22:00:00 CET"}},
		"every, from":     {[]string{"--at", "22:30", "--every", "8h"}, []string{"every day at 06:30, 14:30, 22:30"}},
		"every":           {[]string{"--every", "90m"}, []string{"every 1h30m", "runs        Fri 2026-01-02 04:30:00 UTC"}},
		"weekdays":        {[]string{"--cron", "0 22 * * MON-FRI"}, []string{"on Mon-Fri at 22:00"}},
		"days of a week":  {[]string{"--cron", "0 22 * * 0,3"}, []string{"on Sun, Wed at 22:00"}},
		"a day a month":   {[]string{"--cron", "0 22 1 * *"}, []string{"on day 1 of the month at 22:00"}},
		"anything else":   {[]string{"--cron", "*/10 2-4 * JUN *"}, []string{"cron */10 2-4 * 6 *"}},
		"overlap":         {[]string{"--at", "22:00"}, []string{"skip: a run that is due while one is under way is left out", "catch-up", "10m:", "within 1h ends without doing anything"}},
		"a long catch-up": {[]string{"--at", "22:00", "--catch-up", "6h"}, []string{"within 6h ends without doing anything"}},
		"the request":     {[]string{"--at", "22:00", "-c", "medium", "-t", "cat:spot", "--policy", "night"}, []string{"MEDIUM preemption of VMs tagged cat:spot", "night"}},
		"paused":          {[]string{"--at", "22:00", "--paused", "--note", "why \x1b[31m"}, []string{"n (would be created, paused)", `why \x1b[31m`}},
		"jitter":          {[]string{"--at", "22:00", "--jitter", "15m"}, []string{"jitter      15m"}},
		"cancel-other":    {[]string{"--at", "22:00", "--overlap", "cancel-other"}, []string{"cancel-other: a run that is due cancels the one under way"}},
		"nobody is asked": {[]string{"--at", "22:00", "-s", "127.0.0.1:1"}, []string{"would be created"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			now := optionsAt(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
			preemptctl(t, now, append([]string{"schedule", "create", "n", "--dry-run"}, c.args...)...).want(t, 0, "stdout", c.says...)
		})
	}
}

func TestAScheduleIsCreatedAsAskedFor(t *testing.T) {
	s := newSite(t, true)
	name := s.newSchedule()
	got := s.run("schedule", "create", name, "--cron", "30 22 * * MON-FRI", "--time-zone", "Europe/Berlin", "-t", "spot", "-c", "high",
		"--policy", "night", "--reply-to", "https://broker.corp.local/x", "--overlap", "buffer-one", "--catch-up", "5m", "--jitter", "1m",
		"--note", "saves power", "--paused")
	got.want(t, 0, "stdout", name+" (created, paused)", "on Mon-Fri at 22:30", "Europe/Berlin", "preemptctl schedule resume "+name)
	if got.stderr != "" {
		t.Errorf("it wrote to stderr:\n%s", got.stderr)
	}
	d := s.describe(name)
	action := d.Schedule.Action.(*client.ScheduleWorkflowAction)
	if action.ID != "schedule-"+name || action.Workflow != preemption.WorkflowName || action.TaskQueue != s.queue || len(action.Args) != 1 ||
		action.WorkflowExecutionTimeout != time.Hour {
		t.Errorf("unexpected action %+v", action)
	}
	input := action.Args[0].(*commonpb.Payload)
	want := `{"pending":[{"json":{"tag":"spot","criticality":"HIGH","replyTo":"https://broker.corp.local/x",` +
		`"origin":"person","policy":"night","taskQueue":"` + s.queue + `"}}],"once":true}`
	if string(input.GetMetadata()["encoding"]) != "json/plain" || string(input.GetData()) != want {
		t.Errorf("the input is\n%s, want\n%s", input.GetData(), want)
	}
	if p := d.Schedule.Policy; p.Overlap != enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE || p.CatchupWindow != 5*time.Minute {
		t.Errorf("unexpected policy %+v", p)
	}
	if d.Schedule.Spec.Jitter != time.Minute || d.Schedule.Spec.TimeZoneName != "Europe/Berlin" || !d.Schedule.State.Paused {
		t.Errorf("unexpected schedule %+v %+v", d.Schedule.Spec, d.Schedule.State)
	}
	row := s.shows(name, "the schedule is listed", func(scheduledRow) bool { return true })
	if row.Cron != "30 22 * * 1-5" || row.When != "on Mon-Fri at 22:30" || row.Overlap != "buffer-one" || row.CatchUp != "5m" || row.Jitter != "1m" ||
		row.Tag != "spot" || row.Criticality != "HIGH" || row.Policy != "night" || row.Note != "saves power" || row.TaskQueue != s.queue ||
		!row.Paused || row.PausedReason != "saves power" || row.ScheduleID != "preemption-"+name || row.Last != nil {
		t.Errorf("unexpected row %+v", row)
	}
}

func TestWhatIsForeseenIsWhatTemporalSays(t *testing.T) {
	s := newSite(t, true)
	for kind, args := range map[string][]string{
		"a calendar": {"--at", "04:30", "--every", "6h", "--time-zone", "Asia/Kolkata"},
		"interval":   {"--every", "7h"},
	} {
		t.Run(kind, func(t *testing.T) {
			name := s.newSchedule()
			got := s.run(append([]string{"schedule", "create", name, "-o", "json"}, args...)...)
			got.want(t, 0, "stdout")
			row, theirs := decode[scheduledRow](t, got.stdout), s.describe(name).Info.NextActionTimes
			if len(theirs) < 5 || !slices.EqualFunc(row.Next, theirs[:5], time.Time.Equal) {
				t.Errorf("foreseen %v, Temporal says %v", row.Next, theirs)
			}
		})
	}
}

func TestEveryOverlapPolicyIsTemporals(t *testing.T) {
	s := newSite(t, true)
	for word, want := range map[string]enumspb.ScheduleOverlapPolicy{
		"skip": enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, "buffer-one": enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE,
		"cancel-other": enumspb.SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER, "allow-all": enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
	} {
		name := s.newSchedule()
		s.run("schedule", "create", name, "--at", "22:00", "--overlap", word).want(t, 0, "stdout", word+": ")
		if got := s.describe(name).Schedule.Policy.Overlap; got != want {
			t.Errorf("%s became %s", word, got)
		}
	}
}

func TestAScheduleThatExistsStaysAsItIs(t *testing.T) {
	s := newSite(t, true)
	name := s.newSchedule()
	s.run("schedule", "create", name, "--at", "22:00").want(t, 0, "stdout", "created")
	s.run("schedule", "create", name, "--at", "23:00").want(t, 4, "stderr", "schedule "+name+" exists already and stays as it is",
		"to replace it, delete it first: preemptctl schedule delete "+name)
	if row := s.shows(name, "it is listed", func(scheduledRow) bool { return true }); row.When != "every day at 22:00" {
		t.Errorf("it was changed: %+v", row)
	}
}

func TestWithoutAWorkerAScheduleIsCreatedWithAWarning(t *testing.T) {
	s := newSite(t, false)
	name := s.newSchedule()
	s.run("schedule", "create", name, "--at", "22:00").want(t, 0, "stderr", "Warning: no worker polls task queue "+s.queue)
	s.run("schedule", "run", name).want(t, 1, "stderr", "no worker polls task queue "+s.queue, "the run waits for one, and ends without doing anything if there is none within 1h")
}

func TestADryRunCreatesNothing(t *testing.T) {
	s := newSite(t, false)
	s.run("schedule", "create", "dry", "--at", "22:00", "--dry-run").want(t, 0, "stdout", "dry (would be created)")
	s.run("schedule", "delete", "dry").want(t, 3, "stderr", "no schedule dry")
}

func TestTheListTellsWhatCameOfTheLastRun(t *testing.T) {
	s := newSite(t, true)
	for tag, want := range map[string]string{
		"fine":    "partial, 2 VMs off, 1 VM failed: 1 of 3 VMs failed",
		"refused": "refused: the scope was preempted a short time ago",
		"slow":    "under way",
	} {
		t.Run(tag, func(t *testing.T) {
			name := s.newSchedule()
			s.run("schedule", "create", name, "--at", "22:00", "-t", tag, "--paused").want(t, 0, "stdout")
			s.run("schedule", "run", name).want(t, 0, "stdout", "triggered", "Temporal starts it now")
			row := s.shows(name, "the run has its result", func(r scheduledRow) bool { return r.Last != nil && r.Last.Result == want })
			if row.Runs != 1 || !strings.HasPrefix(row.Last.WorkflowID, "schedule-"+name+"-20") {
				t.Errorf("unexpected row %+v %+v", row, row.Last)
			}
			s.run("schedule", "list").want(t, 0, "stdout", "LAST RUN", want, "yes: created paused")
			if tag == "slow" {
				s.run("workflow", "cancel", "-w", row.Last.WorkflowID).want(t, 0, "stdout")
			}
		})
	}
}

func TestARunUnderWayIsNotTouchedAndNamed(t *testing.T) {
	s := newSite(t, true)
	name := s.newSchedule()
	s.run("schedule", "create", name, "--at", "22:00", "-t", "slow").want(t, 0, "stdout")
	s.run("schedule", "run", name).want(t, 0, "stdout")
	run := s.shows(name, "the run is under way", func(r scheduledRow) bool { return len(r.Running) == 1 }).Running[0]
	s.run("schedule", "run", name).want(t, 0, "stdout", "a run is under way, and skip holds")
	s.shows(name, "the second run was skipped", func(r scheduledRow) bool { return r.Skipped == 1 && r.Runs == 1 })
	goesOn := run + "; cancel it: preemptctl workflow cancel --workflow-id " + run
	s.run("schedule", "pause", name).want(t, 0, "stdout", goesOn)
	s.run("schedule", "delete", name).want(t, 0, "stdout", "the run under way is not touched", goesOn)
	s.run("workflow", "cancel", "-w", run).want(t, 0, "stdout")
}

func TestPauseResumeAndDelete(t *testing.T) {
	s := newSite(t, true)
	name := s.newSchedule()
	s.run("schedule", "create", name, "--at", "22:00", "--note", "saves power").want(t, 0, "stdout")
	paused := func(r scheduledRow) bool { return r.Paused }
	running := func(r scheduledRow) bool { return !r.Paused }

	s.run("schedule", "pause", name, "--reason", "end of the quarter").want(t, 0, "stdout", "paused", "nothing starts until it is resumed",
		"preemptctl schedule resume "+name)
	if row := s.shows(name, "it is paused", paused); row.PausedReason != "end of the quarter" || row.Note != "saves power" || len(row.Next) != 0 {
		t.Errorf("unexpected row %+v", row)
	}
	s.run("schedule", "pause", name).want(t, 0, "stdout", "it was paused already")
	s.run("schedule", "resume", name).want(t, 0, "stdout", "resumed", "runs that were due during the pause are not made up for")
	if row := s.shows(name, "it is resumed", running); row.Note != "saves power" || len(row.Next) == 0 {
		t.Errorf("unexpected row %+v", row)
	}
	if note := s.describe(name).Schedule.State.Note; note != "saves power" {
		t.Errorf("the note is %q", note)
	}
	s.run("schedule", "resume", name).want(t, 0, "stdout", "it was not paused")

	line := decode[map[string]any](t, s.run("schedule", "delete", name, "--json").stdout)
	if line["msg"] != "deleted schedule" || line["schedule"] != name || line["scheduleID"] != "preemption-"+name {
		t.Errorf("unexpected line %v", line)
	}
	eventually(t, "it is listed no more", func() bool { _, found := s.listed(name); return !found })
	for _, verb := range []string{"pause", "resume", "run", "delete"} {
		s.run("schedule", verb, name).want(t, 3, "stderr", "Error: no schedule "+name+" in namespace", "preemptctl schedule list")
	}
}

func TestOtherPeoplesSchedulesAreLeftAlone(t *testing.T) {
	s := newSite(t, true)
	name := s.newSchedule()
	for id, kind := range map[string]string{"preemption-" + name: "Backup", name: preemption.WorkflowName} {
		h, err := s.client.ScheduleClient().Create(t.Context(), client.ScheduleOptions{
			ID: id, Paused: true, Spec: client.ScheduleSpec{CronExpressions: []string{"@daily"}},
			Action: &client.ScheduleWorkflowAction{Workflow: kind, TaskQueue: s.queue},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Delete(t.Context()) }()
	}
	own := s.newSchedule()
	s.run("schedule", "create", own, "--at", "22:00").want(t, 0, "stdout")
	s.shows(own, "our own is listed", func(scheduledRow) bool { return true })
	if row, found := s.listed(name); found {
		t.Errorf("it is listed: %+v", row)
	}
	for _, verb := range []string{"pause", "resume", "run", "delete"} {
		s.run("schedule", verb, name).want(t, 4, "stderr", "schedule preemption-"+name+" starts no preemption")
	}
	s.run("schedule", "create", name, "--at", "22:00").want(t, 4, "stderr", "exists already")
}

func TestAScheduleThatWasChangedElsewhereIsShownAsItIs(t *testing.T) {
	s := newSite(t, true)
	name := s.newSchedule()
	s.run("schedule", "create", name, "--at", "22:00").want(t, 0, "stdout")
	err := s.client.ScheduleClient().GetHandle(t.Context(), "preemption-"+name).Update(t.Context(), client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			changed := in.Description.Schedule
			changed.Spec = &client.ScheduleSpec{
				Calendars: []client.ScheduleCalendarSpec{{Second: []client.ScheduleRange{{Start: 30}}}, {Hour: []client.ScheduleRange{{Start: 3}}}},
				Intervals: []client.ScheduleIntervalSpec{{Every: time.Hour, Offset: time.Minute}},
				Skip:      []client.ScheduleCalendarSpec{{}},
			}
			changed.Policy.Overlap = enumspb.SCHEDULE_OVERLAP_POLICY_TERMINATE_OTHER
			return &client.ScheduleUpdate{Schedule: &changed}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "by a calendar that was set elsewhere; every day at 03:00; every 1h from 1m; with exceptions"
	row := s.shows(name, "the change shows", func(r scheduledRow) bool { return r.When == want })
	if row.TimeZone != "UTC" || row.Overlap != "terminateother" || row.Cron+row.Every != "" {
		t.Errorf("unexpected row %+v", row)
	}
}
