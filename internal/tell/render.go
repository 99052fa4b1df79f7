package tell

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/template"
	"time"
)

// Bounds of templates and of what they make.
const (
	maxTemplate = 4 << 10
	maxRendered = 4 << 10
)

// Text is a message as it is sent.
type Text struct{ Title, Body string }

// view is what a template may use.
type view struct {
	Event, Title, Body, Names, Cluster, Alarm, Why, Usage, Deadline, Stop, Look, Link, ID string
	Count                                                                                 int
	VMs                                                                                   []string
}

// Render makes the text of a message. consoleURL is where the console is, "" for nowhere; custom is the template of the
// body, "" for ours.
func Render(m Message, consoleURL, custom string) (Text, error) {
	v := m.view(consoleURL)
	if custom == "" {
		return Text{v.Title, v.Body}, nil
	}
	t, err := template.New("").Option("missingkey=error").Parse(custom)
	if err != nil {
		return Text{v.Title, v.Body}, err
	}
	out := bounded{left: maxRendered}
	if err := t.Execute(&out, v); err != nil {
		return Text{v.Title, v.Body}, err
	}
	return Text{v.Title, out.String()}, nil
}

// CheckTemplate tries a template with a sample of the event.
func CheckTemplate(e Event, custom string) error {
	if len(custom) > maxTemplate {
		return fmt.Errorf("the template has %d bytes; at most %d are taken", len(custom), maxTemplate)
	}
	text, err := Render(Sample(e), "https://console.example.com", custom)
	if err == nil && strings.TrimSpace(text.Body) == "" {
		err = errors.New("it makes an empty text")
	}
	return err
}

// Sample is a message of the event as it could be.
func Sample(e Event) Message {
	m := Message{
		ID: "sample", Event: e, WorkflowID: "preemption-round-1", What: "will be powered off", Cluster: "cluster-a", ClusterRef: "ClusterComputeResource:domain-c1",
		Alarm: "cluster-cpu-above-80", Why: "alarm cluster-cpu-above-80 is red on cluster-a", Usage: "CPU 91 % of 100 GHz",
		At: time.Date(2026, 1, 2, 3, 2, 0, 0, time.UTC), Deadline: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), Stop: "preemptctl workflow cancel", Look: "preemptctl workflow status",
	}
	return m.With([]VM{{Ref: "VirtualMachine:vm-1", Name: "batch-1"}, {Ref: "VirtualMachine:vm-2", Name: "batch-2"}})
}

func (m Message) view(consoleURL string) view {
	v := view{
		Event: string(m.Event), Names: m.Names(), Cluster: harmless(m.Cluster), Alarm: harmless(m.Alarm), Why: harmless(m.Why), Usage: harmless(m.Usage),
		Stop: m.Stop, Look: m.Look, ID: harmless(m.WorkflowID), Count: m.Count,
	}
	for _, vm := range m.VMs[:min(len(m.VMs), maxNamed)] {
		v.VMs = append(v.VMs, harmless(vm.Name))
	}
	if !m.Deadline.IsZero() {
		v.Deadline = m.Deadline.UTC().Format("2006-01-02 15:04:05 MST")
	}
	if consoleURL != "" {
		v.Link = strings.TrimRight(consoleURL, "/") + "/"
		if m.WorkflowID != "" {
			v.Link += "rounds/" + url.PathEscape(m.WorkflowID)
		}
	}
	v.Title = m.title()
	v.Body = v.body()
	return v
}

// title says in one line what happens.
func (m Message) title() string {
	text := harmless(m.What)
	switch {
	case m.Count == 1 && len(m.VMs) == 1:
		text = harmless(m.VMs[0].Name) + " " + text
	case m.Count == 1:
		text = "1 VM " + text
	case m.Count > 1:
		text = fmt.Sprintf("%d VMs %s", m.Count, text)
	}
	if m.Cluster != "" {
		text += " in " + harmless(m.Cluster)
	}
	return text
}

// body is our own text: one line for each thing that is known.
func (v view) body() string {
	var b strings.Builder
	b.WriteString(v.Title + "\n")
	for _, line := range []struct{ name, text string }{
		{"VMs", v.Names}, {"When", v.Deadline}, {"Why", v.Why}, {"Usage", v.Usage}, {"Alarm", v.Alarm}, {"To stop it", v.Stop}, {"More", v.Look}, {"Console", v.Link},
	} {
		if line.text != "" {
			fmt.Fprintf(&b, "%s: %s\n", line.name, line.text)
		}
	}
	return b.String()
}

// bounded is a buffer that takes no more than left bytes.
type bounded struct {
	bytes.Buffer
	left int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fmt.Errorf("its text is longer than %d bytes", maxRendered)
	}
	return b.Buffer.Write(p)
}
