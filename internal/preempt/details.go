package preempt

import (
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// PlainText takes out of a name what Markdown or HTML would make something of.
func PlainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune("|`<>*[]", r) {
			return '·'
		}
		return r
	}, s)
}

// RefOf is the reference of an object that an event names.
func RefOf(o alarm.Object) vsphere.Ref { return vsphere.Ref{Type: o.Type, Value: o.Value} }
