package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Bounds of a completion: a person waits with a finger on the key.
const (
	completionLimit = 2 * time.Second
	mostCompletions = 100
)

// A source lists names that may be meant by what begins with a prefix. It returns what it has when the context ends, and a name may
// be followed by a tab and a few words about it.
type source func(ctx context.Context, s *session, prefix string) []string

// completeEverywhere gives each flag and argument that takes a name the source of its names. Where no file is taken none is offered.
func (a *app) completeEverywhere(c *cobra.Command) {
	flags := map[string]source{
		"vm": vmNames, "room-for": vmNames, "attribute-on": vmNames, "cluster": clusterNames, "alarm": alarmNames, "policy": policyNames,
		"datastore": datastoreNames, "workflow-id": workflowsToSee,
	}
	args := map[string]source{
		"evict": vmNames, "explain": vmNames, "restore": vmNames, "spare": vmNames, "spare end": sparedNames, "tags show": vmNames,
		"remediation plan": vmNames, "remediation run": vmNames, "remediation show": remediations, "workflow repair": workflowsUnderWay,
		"schedule pause": scheduleNames, "schedule resume": scheduleNames, "schedule run": scheduleNames, "schedule delete": scheduleNames,
	}
	path := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), c.Root().Name()), " ")
	switch path {
	case "make-room":
		flags["for"] = vmNames
	case "workflow cancel":
		flags["workflow-id"] = workflowsUnderWay
	case "workflow run":
		flags["workflow-id"] = intakes
	case "policy replay": // the policy is one of its file
		delete(flags, "policy")
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, done := c.GetFlagCompletionFunc(f.Name); done {
			return
		}
		complete := cobra.CompletionFunc(cobra.NoFileCompletions)
		if from := flags[f.Name]; from != nil {
			complete = a.completes(from, true)
		}
		if !slices.Contains(ofFiles, f.Name) {
			_ = c.RegisterFlagCompletionFunc(f.Name, complete)
		}
	})
	switch from := args[path]; {
	case from != nil:
		c.ValidArgsFunction = a.completes(from, path == "restore")
	case !strings.Contains(c.Use, "FILE"):
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range c.Commands() {
		a.completeEverywhere(sub)
	}
}

// ofFiles are the flags that take the name of a file.
var ofFiles = []string{"event", "token-file"}

// completes asks a source. It is silent whatever happens, and quick: it leaves whoever does not answer in time. Of arguments only the
// first is completed, unless several are taken.
func (a *app) completes(from source, several bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if len(args) > 0 && !several {
			return nil, none
		}
		a.Stderr = io.Discard
		var err error
		if a.target, err = a.findTarget(cmd); err != nil {
			return nil, none
		}
		found := make(chan []string, 1)
		go func() {
			var names []string
			_ = a.withSession(cmd, completionLimit, func(ctx context.Context, s *session) error {
				names = from(ctx, s, prefix)
				return nil
			})
			found <- names
		}()
		select {
		case names := <-found:
			return offered(names, args, prefix), none
		case <-time.After(completionLimit):
			return nil, none
		}
	}
}

// offered are the names that begin with a prefix, in any case, each once, without those that are given already. Names with characters
// that would do something to a terminal, and those that look like flags, are left out.
func offered(names, given []string, prefix string) []string {
	seen := map[string]bool{}
	out := []string{}
	for _, name := range names {
		word, about, _ := strings.Cut(name, "\t")
		switch {
		case word == "" || seen[word] || slices.Contains(given, word) || clean(word) != word || strings.HasPrefix(word, "-"),
			len(word) < len(prefix) || !strings.EqualFold(word[:len(prefix)], prefix):
			continue
		}
		seen[word] = true
		if about != "" {
			word += "\t" + clean(about)
		}
		if out = append(out, word); len(out) == mostCompletions {
			break
		}
	}
	return out
}

// described is a name with words about it.
func described(name, format string, args ...any) string {
	return name + "\t" + fmt.Sprintf(format, args...)
}
