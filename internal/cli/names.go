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

// namesLimit is how long the answer about names is waited for. Where none comes, as while vCenter is away, the request
// continues: what it names is then found wrong later.
const namesLimit = 6 * time.Second

// known is an error where vCenter does not know what was named, so that a slip of the pen starts nothing. It asks the
// worker; if none polls, what follows says so.
func (a *app) known(ctx context.Context, s *session, in preemptapi.NamesInput) error {
	if polled, err := s.polled(ctx); err != nil || !polled {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, namesLimit)
	defer cancel()
	var out preemptapi.NamesResult
	run, err := s.ExecuteWorkflow(limited, client.StartWorkflowOptions{
		ID: "preemption-plan-names-" + uuid.NewString(), TaskQueue: a.target.queue, WorkflowExecutionTimeout: namesLimit,
		StaticSummary: "looks whether vCenter knows what was named",
	}, preemptapi.NamesType, in)
	if err == nil {
		err = run.Get(limited, &out)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		a.log.Debug("could not check the names in vCenter; the request continues", "error", err)
		return nil
	case len(out.Unknown) > 0:
		return notFoundf("nothing was started: %s", strings.Join(out.Unknown, "; "))
	case len(out.Ambiguous) > 0:
		return usagef("nothing was started: %s", strings.Join(out.Ambiguous, "; "))
	}
	return nil
}

// emptyMayStand are the flags of the prototype whose empty value always meant that none is given.
var emptyMayStand = []string{"event", "reply-to", "run-id"}

func emptyFlag(name string) error {
	return fmt.Errorf("--%s is empty: leave it out, or name one", name)
}
