package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// namesLimit is how long to wait for the answer about names. If there is none, as while vCenter is away, the request
// continues, and wrong names are found later.
const namesLimit = 6 * time.Second

// startedNothing begins the answer about a name that is not known.
const startedNothing = "nothing was started: "

// known returns an error if vCenter does not know a name, so that a typing error starts nothing. It asks the
// worker; if none polls, a later step reports that.
func (a *app) known(ctx context.Context, s *session, in preemptapi.NamesInput) error {
	if polled, err := s.polled(ctx); err != nil || !polled {
		return err
	}
	_, err := a.lookUp(ctx, s, in)
	return err
}

// lookUp asks a worker about names. The answer is empty if there is none in time, as while vCenter is away; if that is because no
// worker took the question, the session knows.
func (a *app) lookUp(ctx context.Context, s *session, in preemptapi.NamesInput) (out preemptapi.NamesResult, err error) {
	limited, cancel := context.WithTimeout(ctx, namesLimit)
	defer cancel()
	id := "preemption-plan-names-" + uuid.NewString()
	s.unheeded = nil
	run, err := s.ExecuteWorkflow(limited, client.StartWorkflowOptions{
		ID: id, TaskQueue: a.target.queue, WorkflowExecutionTimeout: namesLimit,
		StaticSummary: "looks whether vCenter knows what was named",
	}, preemptapi.NamesType, in)
	if err == nil {
		err = run.Get(limited, &out)
	}
	switch {
	case ctx.Err() != nil:
		return out, ctx.Err()
	case err != nil:
		a.log.Debug("could not check the names in vCenter; the request continues", "error", err)
		if run != nil {
			s.unheeded = s.untaken(ctx, id, a.startOne("nothing can be looked up in vCenter until one does"))
		}
		return preemptapi.NamesResult{}, nil
	case len(out.Unknown) > 0:
		return out, notFoundf(startedNothing+"%s", strings.Join(out.Unknown, "; "))
	case len(out.Ambiguous) > 0:
		return out, usagef(startedNothing+"%s", strings.Join(out.Ambiguous, "; "))
	}
	return out, nil
}

// emptyMayStand are the flags of the prototype whose empty value always meant that the flag is not given.
var emptyMayStand = []string{"event", "reply-to", "run-id"}

func emptyFlag(name string) error {
	return fmt.Errorf("--%s is empty: leave it out, or name one", name)
}
