package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// Limits on what is created at once.
const (
	maxCategories = 64
	maxTags       = 256 // of one category
	maxTagName    = 256 // bytes, also of a category
)

// tagsFlags are the flags of tags create.
type tagsFlags struct {
	categories []string
	dryRun     bool
	timeout    time.Duration
}

// tagsCreated is what tags create prints.
type tagsCreated struct {
	DryRun  bool               `json:"dryRun,omitempty"`
	Created []remediateapi.Tag `json:"created"` // or, in a dry run, to be created
	Existed []remediateapi.Tag `json:"existed"`
}

func (a *app) tagsCreateCommand() *cobra.Command {
	var f tagsFlags
	cmd := &cobra.Command{
		Use: "create", Args: noArgs,
		Short: "Create the categories and tags for VM settings",
		Long: "Create the tag categories and tags with which the owners of VMs ask for settings: the settings of the original\n" +
			"functions, with CPUs and cores 1 to 4, memory in powers of two from 1024 to 16384 MB, booleans, and the modes\n" +
			"with which owners opt in and out. With --category create only the tags that it names. Existing tags stay as they\n" +
			"are, so you can run this again. The worker's user needs the privileges to create categories and tags.\n\n" +
			exitCodes(", also when no worker polls the task queue", "", ""),
		Example: "  # what is missing?\n  preemptctl tags create --dry-run\n  preemptctl tags create\n" +
			"  # let owners ask for more CPUs\n  preemptctl tags create --category config.hardware.numCPU=8,16\n" +
			"  # let owners bound what a VM grows to\n  preemptctl tags create --category remediation-max-cpus=4,8 --category remediation-max-memory=16384",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.tagsCreate(cmd, f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.categories, "category", nil, "category and tags to create, as NAME=TAG,TAG,...; repeatable (default: those of the settings and modes)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show what would be created")
	flags.DurationVar(&f.timeout, "timeout", planLimit, "how long to wait")
	_ = cmd.RegisterFlagCompletionFunc("category", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, c := range placement.Categories() {
			names = append(names, c+"=")
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	return cmd
}

func (a *app) tagsCreate(cmd *cobra.Command, f tagsFlags) error {
	values, err := tagValues(f.categories)
	if err != nil {
		return err
	}
	if f.timeout <= 0 {
		return usagef("--timeout %s is not above zero", f.timeout)
	}
	in := remediateapi.TagsInput{Values: values, DryRun: f.dryRun}
	left := "what was created stays; run it again to continue"
	if f.dryRun {
		left = "nothing was touched"
	}
	return a.withSession(cmd, f.timeout, func(ctx context.Context, s *session) error {
		r, err := s.tags(ctx, in, f.timeout, left)
		if err != nil {
			return err
		}
		out := tagsCreated{DryRun: f.dryRun, Created: nonNil(r.Created), Existed: nonNil(r.Existed)}
		return a.show(view{
			value: out, msg: "created tags", attrs: []any{"dryRun", out.DryRun, "created", out.Created, "existed", out.Existed},
			table: func(t *table) { tagsCreatedTable(t, out) },
		})
	})
}

// tags asks the worker to create or read tags.
func (s *session) tags(ctx context.Context, in remediateapi.TagsInput, limit time.Duration, left string) (r remediateapi.TagsResult, err error) {
	what := line("Creates categories and tags")
	if in.VM != "" {
		what = line("Reads the tags of VM %s", in.VM)
	}
	run, err := s.put(ctx, question{
		id: "tags-" + uuid.NewString(), kind: remediateapi.TagsType, summary: what, input: in, limit: limit, unpolled: "no tags are created or read",
	})
	if err != nil {
		return r, err
	}
	err = run.Get(ctx, &r)
	if named := notNamed(err); named != nil {
		return r, named
	}
	if err != nil {
		return r, s.unanswered(ctx, run.GetID(), "answer about tags", left, err)
	}
	return r, nil
}

func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func tagsCreatedTable(t *table, out tagsCreated) {
	title := "created"
	if out.DryRun {
		title = "would be created"
	}
	t.row(title, tagCount(out.Created))
	t.row("existed", tagCount(out.Existed))
	t.section("CATEGORY", "TAG", "STATE")
	for _, of := range []struct {
		state string
		tags  []remediateapi.Tag
	}{{title, out.Created}, {"existed", out.Existed}} {
		for _, tag := range of.tags {
			t.row(tag.Category, orDash(tag.Name), of.state)
		}
	}
}

// tagCount counts categories and tags.
func tagCount(tags []remediateapi.Tag) string {
	categories := 0
	for _, t := range tags {
		if t.Name == "" {
			categories++
		}
	}
	return fmt.Sprintf("%d categories, %d tags", categories, len(tags)-categories)
}

// tagValues reads what --category says: tags by category, without doubles.
func tagValues(flags []string) (map[string][]string, error) {
	if len(flags) == 0 {
		return remediateapi.DefaultTags(), nil
	}
	values := map[string][]string{}
	for _, flag := range flags {
		category, list, found := strings.Cut(flag, "=")
		category = strings.TrimSpace(category)
		if !found || strings.TrimSpace(list) == "" {
			return nil, usagef("--category %q names no tags: write it as NAME=TAG,TAG,...", flag)
		}
		if err := tagName(category); err != nil {
			return nil, usagef("--category %q: the category %w", flag, err)
		}
		for value := range strings.SplitSeq(list, ",") {
			value = strings.TrimSpace(value)
			err := tagName(value)
			if err == nil {
				err = tagValue(category, value)
			}
			if err != nil {
				return nil, usagef("--category %q: the tag %q %w", flag, value, err)
			}
			if !slices.Contains(values[category], value) {
				values[category] = append(values[category], value)
			}
		}
		if n := len(values[category]); n > maxTags {
			return nil, usagef("--category %s names %d tags: at most %d are taken", category, n, maxTags)
		}
	}
	if len(values) > maxCategories {
		return nil, usagef("--category names %d categories: at most %d are taken", len(values), maxCategories)
	}
	return values, nil
}

// tagName refuses names that vCenter does not accept.
func tagName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is empty")
	case len(name) > maxTagName:
		return fmt.Errorf("is %d bytes long: at most %d are taken", len(name), maxTagName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("has control characters")
	}
	return nil
}

// tagValue refuses a tag that could never be applied, because every VM with it would be reported as wrong.
func tagValue(category, value string) error {
	switch category {
	case placement.CategoryCPUs, placement.CategoryMemory, placement.CategoryCoresPerSocket, placement.CategoryMaxCPUs, placement.CategoryMaxMemory:
		if n, err := strconv.ParseInt(value, 10, 32); err != nil || n < 1 || strconv.FormatInt(n, 10) != value {
			return fmt.Errorf("is no number above zero")
		}
	case placement.CategoryMemoryHotAdd, placement.CategoryCPUHotAdd, placement.CategoryCPUHotRemove:
		if value != "true" && value != "false" {
			return fmt.Errorf("is neither true nor false")
		}
	case placement.CategoryMode:
		if known := remediateapi.DefaultTags()[category]; !slices.Contains(known, value) {
			return fmt.Errorf("is no mode: use %s", strings.Join(known, ", "))
		}
	}
	return nil
}

// sortedCategories are the categories of tags in the order of package remedy, then any others by name.
func sortedCategories(tags map[string][]string) []string {
	all := placement.Categories()
	for _, c := range slices.Sorted(maps.Keys(tags)) {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}
