package standalone

import (
	"cmp"
	"errors"
	"fmt"
	"path"

	"github.com/spf13/pflag"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// longestAlarm is how long the name of an alarm may be, in bytes: vSphere takes 80 characters.
const longestAlarm = 255

// rehearsalOptions say what to try on a saved inventory.
type rehearsalOptions struct {
	inventory   string   // folder; "" for the simulated site
	tagged      []string // globs of VM names
	alarm, on   string
	red, yellow bool
}

func (r *rehearsalOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&r.inventory, "inventory", "", "with --simulate: a vCenter saved by govc object.save, in place of the built-in one")
	f.StringArrayVar(&r.tagged, "tagged", nil, "with --inventory: a glob; VMs whose names match carry the tag too (repeatable)")
	f.StringVar(&r.alarm, "alarm", "", "with --inventory: name of an alarm to raise")
	f.StringVar(&r.on, "on", "", "with --alarm: name or MoRef of the host or cluster that it is raised on")
	f.BoolVar(&r.red, "red", false, "with --alarm: raise it to red")
	f.BoolVar(&r.yellow, "yellow", false, "with --alarm: raise it to yellow")
}

func (r rehearsalOptions) validate(simulate bool) error {
	var wrong []error
	add := func(is bool, text string) {
		if is {
			wrong = append(wrong, errors.New(text))
		}
	}
	raised := r.on != "" || r.red || r.yellow
	add(r.inventory != "" && !simulate, "--inventory is a vCenter to simulate: give --simulate too")
	add(r.inventory == "" && (len(r.tagged) > 0 || r.alarm != "" || raised),
		"--tagged, --alarm, --on, --red and --yellow are for a saved inventory: name one with --inventory")
	add(r.inventory != "" && r.alarm == "" && raised, "--on, --red and --yellow say how an alarm is raised: name it with --alarm")
	add(len(r.alarm) > longestAlarm || shown.Plain(r.alarm) != r.alarm,
		fmt.Sprintf("--alarm is no name of an alarm: at most %d bytes, without control characters", longestAlarm))
	add(r.alarm != "" && r.on == "", "--alarm needs --on, the host or cluster to raise it on")
	add(r.alarm != "" && r.red == r.yellow, "--alarm needs one of --red and --yellow")
	for _, glob := range r.tagged {
		_, err := path.Match(glob, "")
		add(err != nil, fmt.Sprintf("--tagged %q is no glob: use * ? and [a-z], with \\ before a literal one", glob))
	}
	return errors.Join(wrong...)
}

func (r rehearsalOptions) colour() string {
	if r.yellow {
		return alarm.Yellow
	}
	return alarm.Red
}

// environment adds the rule of the simulated site's alarm, or of the one to raise. A file's rules are the only ones of a
// rehearsal, as they are at the site.
func (o *options) environment(env config.Env) (names []string) {
	switch {
	case o.inventory == "":
		env["VSPHERE_ALARM_NAME"], env["VSPHERE_PREEMPTION_TAG"] = alarmName, preemption.DefaultTag
		return nil
	case o.file == "" && o.env.Get("PREEMPTION_CONFIG") == "":
		env["VSPHERE_ALARM_NAME"], env["VSPHERE_PREEMPTION_TAG"] = cmp.Or(o.alarm, alarmName), preemption.DefaultTag
		return []string{"VSPHERE_PREEMPTION_TAG"}
	}
	return []string{"VSPHERE_ALARM_NAME", "VSPHERE_PREEMPTION_TAG"}
}

// rule is the first one on the alarm to raise, of which ref is the MoRef if that is known.
func (o *options) rule(ref string) (trigger.Rule, bool) {
	of := alarm.Alarm{Name: o.alarm, Ref: alarm.Object{Type: "Alarm", Value: ref}}
	for _, r := range o.set.File.Rules {
		if o.alarm != "" && r.Matches(alarm.Event{Class: alarm.ClassAlarm, Alarm: of}) {
			return r, true
		}
	}
	return trigger.Rule{}, false
}

// silenced are the rules without the addresses that they answer to: a rehearsal tells nobody outside.
func silenced(rules []trigger.Rule) []trigger.Rule {
	out := make([]trigger.Rule, len(rules))
	for i, r := range rules {
		r.Action = r.Action.WithoutReply()
		out[i] = r
	}
	return out
}

// tags are those of the rules, the one of the alarm to raise first.
func (o *options) tags() (names []string) {
	rules := o.set.File.Rules
	if r, ok := o.rule(""); ok {
		rules = append([]trigger.Rule{r}, rules...)
	}
	seen := map[string]bool{}
	for _, r := range rules {
		if tag := r.Action.VMTag(); tag != "" && !seen[tag] {
			seen[tag] = true
			names = append(names, tag)
		}
	}
	if len(names) == 0 {
		return []string{preemption.DefaultTag}
	}
	return names
}
