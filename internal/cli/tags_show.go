package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// vmTags is what tags show prints.
type vmTags struct {
	VM       vsphere.Ref         `json:"vm"`
	Name     string              `json:"name"`
	Power    string              `json:"power"`
	Tags     map[string][]string `json:"tags"`
	Hardware *placement.Hardware `json:"hardware,omitempty"`
	Wanted   *placement.Hardware `json:"wanted,omitempty"` // after the next power-off
	Bad      []placement.BadTag  `json:"bad"`
}

func (a *app) tagsShowCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "show VM", Args: arguments(1, 1, "one VM: its name, inventory path or MoRef"),
		Short: "Show the settings of a VM, and those that its tags ask for",
		Long: "Show the settings of a VM and those that its tags ask for, and which tags cannot be applied. VM is a MoRef, an\n" +
			"inventory path, or a name that only one VM has. If the VM is on, the settings are applied when it is turned off.\n\n" +
			exitStatus("no such VM, or several of that name", ""),
		Example: "  preemptctl tags show web-1\n  preemptctl tags show vm-12 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			vm := strings.TrimSpace(args[0])
			if err := nameCheck("VM", vm); err != nil {
				return err
			}
			if timeout <= 0 {
				return usagef("--timeout %s is not above zero", timeout)
			}
			return a.withSession(cmd, timeout, func(ctx context.Context, s *session) error {
				if err := a.known(ctx, s, preemptapi.NamesInput{VMs: []string{vm}}); err != nil {
					return err
				}
				r, err := s.tags(ctx, remediateapi.TagsInput{VM: vm}, timeout, "nothing was touched")
				if err != nil {
					return err
				}
				return a.showTags(r)
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", planLimit, "how long to wait")
	return cmd
}

func (a *app) showTags(r remediateapi.TagsResult) error {
	out := vmTags{VM: r.VM, Name: r.Name, Power: r.Power, Tags: r.Tags, Hardware: r.Hardware, Wanted: r.Wanted, Bad: nonNil(r.Bad)}
	if out.Tags == nil {
		out.Tags = map[string][]string{}
	}
	return a.show(view{value: out, msg: "tags", attrs: []any{"tags", out}, table: func(t *table) { vmTagsTable(t, out) }})
}

// vmTagsTable shows every setting, and every other category that the VM carries a tag of.
func vmTagsTable(t *table, out vmTags) {
	t.row("vm", vmName(out.Name, out.VM))
	t.row("power", poweredWords(out.Power, changeWords(out.Hardware, out.Wanted) != ""))
	t.section("SETTING", "NOW", "WANTED", "TAG", "CATEGORY", "WHY THE TAG IS BAD")
	settings := map[string]setting{}
	for _, s := range hardwareSettings {
		settings[s.category] = s
	}
	for _, category := range sortedCategories(out.Tags) {
		s, known := settings[category]
		tags, bad := tagWords(out.Tags[category]), badWords(out.Bad, category)
		now, wanted := "", ""
		if known && out.Hardware != nil {
			now = s.of(*out.Hardware)
		}
		if known && out.Wanted != nil {
			wanted = s.of(*out.Wanted)
		}
		if known || tags != "" || bad != "" {
			t.row(orDash(s.words), orDash(now), orDash(wanted), orDash(tags), category, orDash(bad))
		}
	}
}
