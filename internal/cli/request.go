package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// askFlags are the flags of a request.
type askFlags struct {
	tag, criticality, replyTo, policy string
}

// requestFlags are the flags of commands that make a request now, with its cause.
type requestFlags struct {
	askFlags
	event string
}

func (f *requestFlags) register(cmd *cobra.Command) {
	f.askFlags.register(cmd)
	cmd.Flags().StringVarP(&f.event, "event", "e", "", "CloudEvent that causes the preemption: JSON, @FILE, or - for standard input")
}

// register adds the flags. A criticality that is set is the default, else LOW.
func (f *askFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&f.tag, "tag", "t", preemption.DefaultTag, "vSphere tag that marks preemptible VMs; category:name where a name is ambiguous")
	flags.StringVarP(&f.criticality, "criticality", "c", cmp.Or(f.criticality, string(preemption.CriticalityLow)), "how hard to act: LOW, MEDIUM or HIGH, in any case")
	flags.StringVar(&f.replyTo, "reply-to", "", "URL that gets a CloudEvent about the preempted VMs")
	flags.StringVar(&f.policy, "policy", "", "name of the policy in the worker's file (default: the policy \"default\")")
	_ = cmd.RegisterFlagCompletionFunc("criticality", cobra.FixedCompletions([]string{"LOW", "MEDIUM", "HIGH"}, cobra.ShellCompDirectiveNoFileComp))
}

// request makes the request of the flags.
func (a *app) request(f requestFlags) (preemption.WorkflowRequest, error) {
	req, err := a.asked(f.askFlags)
	if err != nil {
		return req, err
	}
	if req.Event, err = a.causingEvent(f.event); err != nil {
		return req, usagef("--event: %w", err)
	}
	req.ID = req.Event.Source() + "|" + req.Event.ID()
	return req, nil
}

// asked makes a request without an event and an id: a person's, meant for the task queue that was named.
func (a *app) asked(f askFlags) (preemption.WorkflowRequest, error) {
	none := preemption.WorkflowRequest{}
	if strings.TrimSpace(f.tag) == "" {
		return none, usagef("--tag is empty: name the tag that marks preemptible VMs")
	}
	criticality, err := preemption.ParseCriticality(f.criticality)
	if err != nil {
		return none, usagef("--criticality: %w", err)
	}
	if f.replyTo != "" {
		if u, err := url.Parse(f.replyTo); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return none, usagef("--reply-to %q is no http or https URL", shown.Redact(f.replyTo))
		}
	}
	return preemption.WorkflowRequest{
		Tag: strings.TrimSpace(f.tag), Criticality: criticality, ReplyTo: f.replyTo,
		Origin: preemption.OriginPerson, Policy: f.policy, TaskQueue: a.target.queue,
	}, nil
}

// causingEvent reads the event that the flag names, or makes one if the flag is empty.
func (a *app) causingEvent(flag string) (event.Event, error) {
	if flag == "" {
		e := event.New()
		e.SetType(preemption.RunEventType)
		e.SetSource(preemption.DefaultWorkflowID)
		e.SetID(uuid.NewString())
		e.SetTime(a.Now().UTC())
		return e, nil
	}
	data := []byte(flag)
	var err error
	switch {
	case flag == "-":
		data, err = readAll(a.Stdin)
	case strings.HasPrefix(flag, "@"):
		data, err = readFile(flag[1:])
	}
	if err != nil {
		return event.Event{}, err
	}
	return preemption.ParseEvent(data)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f)
	return data, errors.Join(err, f.Close())
}

// readAll reads at most one byte more than the limit.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, preemption.MaxRequestBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	return data, nil
}
