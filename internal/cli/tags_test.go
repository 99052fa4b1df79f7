package cli_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// manyTags are flags of so many categories, each of so many tags.
func manyTags(categories, tags int) (flags []string) {
	for c := range categories {
		var values []string
		for n := range tags {
			values = append(values, fmt.Sprintf("t%d", n))
		}
		flags = append(flags, "--category", fmt.Sprintf("c%d=%s", c, strings.Join(values, ",")))
	}
	return flags
}

func TestTagsAreCreatedOnce(t *testing.T) {
	s := newSite(t, true)
	type created struct {
		DryRun           bool
		Created, Existed []remediateapi.Tag
	}
	all := decode[created](t, s.run("tags", "create", "--dry-run", "-o", "json").stdout)
	if !all.DryRun || len(all.Created) != len(remediateapi.DefaultTags()) || len(all.Existed) < 20 {
		t.Errorf("unexpected result %+v", all)
	}
	s.run("tags", "create", "--category", "config.hardware.numCPU=8, 16", "--category", "tier=gold", "--category", "config.hardware.numCPU=8").want(t, 0, "stdout",
		"created   2 categories, 0 tags", "existed   0 categories, 3 tags", "config.hardware.numCPU   16", `gold`)
	s.run("tags", "create", "--dry-run", "--category", "a=b").want(t, 0, "stdout", "would be created   1 categories")
	s.run("tags", "create", "--category", "tier=slow", "--timeout", "1s").want(t, 1, "stderr", "no answer about tags within the time given", "what was created stays")
}

func TestTheTagsOfAVMAreShown(t *testing.T) {
	s := newSite(t, true)
	s.run("tags", "show", "web-1").want(t, 0, "stdout", `web-\u202e1 (vm-1)`, "poweredOn: what is wanted is applied at the next power-off",
		"virtual CPUs       2         4         4      config.hardware.numCPU", "lots   config.hardware.memoryMB", "it is no number",
		"tag    remediation-mode")
	r := decode[remediateapi.TagsResult](t, s.run("tags", "show", "web-1", "-o", "json").stdout)
	if r.VM != ref("vm-1") || r.Wanted.CPUs != 4 || len(r.Bad) != 1 || !reflect.DeepEqual(r.Tags[placement.CategoryMode], []string{"tag"}) {
		t.Errorf("unexpected result %+v", r)
	}
	s.run("tags", "show", "nosuch").want(t, 3, "stderr", "there is no VM nosuch")
	s.run("tags", "show", "twins").want(t, 3, "stderr", "2 VMs are called twins")
	s.run("tags", "show", "broken").want(t, 1, "stderr", "no answer about tags: vCenter said no")
}
