package cli

import (
	"regexp"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// The places in which a VM's name may be: after its MoRef, in the id of an eviction, and in a text about it.
var (
	afterMoRef = regexp.MustCompile(`\b(vm-\d+) \((?:[^()\n]|\([^()\n]*\))*\)`)
	inEviction = regexp.MustCompile(regexp.QuoteMeta(workflowid.Evict) + `\S+`)
)

// hideNames removes the names of VMs from the checks; named is the VM that the command line names.
func (d *diagnosis) hideNames(named string) {
	for i := range d.Checks {
		c := &d.Checks[i]
		for _, text := range []*string{&c.Name, &c.Text, &c.Remedy} {
			*text = inEviction.ReplaceAllString(*text, workflowid.Evict+"…")
			*text = afterMoRef.ReplaceAllString(*text, "$1")
			if named != "" && !strings.HasPrefix(named, "vm-") {
				*text = strings.ReplaceAll(*text, named, "…")
			}
		}
	}
}
