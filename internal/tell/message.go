package tell

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// MaxVMs is how many VMs of a message are kept one by one; Count has all of them.
const MaxVMs = 1000

// VM is one of those that a message is about.
type VM struct {
	Ref  string `json:"ref"` // Type:Value
	Name string `json:"name"`
	Note string `json:"note,omitempty"` // what became of it, in words
}

// Message is what people are told. Its texts may come from vCenter or from whoever raised an alarm: they are made
// harmless when they are rendered.
type Message struct {
	ID         string    `json:"id"`              // the same at each attempt
	Event      Event     `json:"event,omitempty"` // empty: a test
	At         time.Time `json:"at"`
	WorkflowID string    `json:"workflowID,omitempty"`
	What       string    `json:"what"` // in one sentence, without its VMs, such as "will be powered off"
	VMs        []VM      `json:"vms,omitempty"`
	Count      int       `json:"count,omitempty"` // of all VMs
	Cluster    string    `json:"cluster,omitempty"`
	ClusterRef string    `json:"clusterRef,omitempty"` // Type:Value
	Alarm      string    `json:"alarm,omitempty"`
	Why        string    `json:"why,omitempty"`
	Usage      string    `json:"usage,omitempty"`
	Deadline   time.Time `json:"deadline,omitzero"`
	Stop       string    `json:"stop,omitempty"` // the command that stops it
	Look       string    `json:"look,omitempty"` // the command that shows it
}

// With returns the message about these VMs: MaxVMs of them by name, all of them by number.
func (m Message) With(vms []VM) Message {
	m.Count = len(vms)
	m.VMs = slices.Clone(vms[:min(len(vms), MaxVMs)])
	return m
}

// Only returns the message about those of its VMs that have one of the references.
func (m Message) Only(refs []string) Message {
	var vms []VM
	for _, vm := range m.VMs {
		if slices.Contains(refs, vm.Ref) {
			vms = append(vms, vm)
		}
	}
	return m.With(vms)
}

// Short returns the message with only the VMs that are named in its text.
func (m Message) Short() Message {
	m.VMs = slices.Clone(m.VMs[:min(len(m.VMs), maxNamed)])
	return m
}

// maxNamed is how many VMs a text names.
const maxNamed = 10

// Names lists the VMs in words: ten at most, and how many more there are.
func (m Message) Names() string {
	var list []string
	for _, vm := range m.VMs[:min(len(m.VMs), maxNamed)] {
		text := harmless(vm.Name)
		if text == "" {
			text = harmless(vm.Ref)
		}
		if vm.Note != "" {
			text += " (" + harmless(vm.Note) + ")"
		}
		list = append(list, text)
	}
	if more := m.Count - len(list); more > 0 && len(list) > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}

// marks are the characters by which chats make links of a text, or call people.
var marks = strings.NewReplacer("<", "‹", ">", "›", "@", "＠", "[", "(", "]", ")", "`", "'")

// harmless makes text of others fit for a chat or a mail: short, on one line, and calling nobody.
func harmless(s string) string {
	return marks.Replace(shown.Plain(shown.Clip(shown.Redact(s), maxText)))
}

// maxText bounds one text of a message.
const maxText = 300
