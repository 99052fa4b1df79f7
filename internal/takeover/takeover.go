// Package takeover finds open workflows of this task queue that only look like ours, and goes on in their place: runs of
// PreemptVMsWorkflow that another program began, whose history ours cannot continue, and a ledger that runs under
// another type. It reads what they had not dealt with yet, and ends them and starts ours with that in one step. It imports
// of ours the root contract, ledger and preempt with its contract; it touches no VM.
package takeover

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
)

// What was taken over: the values of the metric's label.
const (
	Prototype = "prototype"
	Ledger    = "ledger"
)

// identityPrefix begins the identity with which a keeper starts runs.
const identityPrefix = "takeover-"

// firstLook bounds the look before the worker starts; what it does not get to, the next one does.
const firstLook = 10 * time.Second

// maxTaken is how many takeovers are remembered for the report.
const maxTaken = 20

// Config is what the looks need.
type Config struct {
	Temporal  client.Client
	Namespace string
	TaskQueue string
	Sweep     time.Duration // of a ledger that is started, see ledger.Input
	Every     time.Duration // from look to look; default a minute
	Log       *slog.Logger
	Count     func(what string) // of each takeover; nil: nobody counts
}

// Keeper looks for such workflows from time to time.
type Keeper struct {
	Config
	looking  sync.Mutex      // one look at a time; it holds what follows
	identity string          // of this keeper among others
	known    map[string]bool // runs that are ours: a run does not change hands
	owed     []debt

	mu    sync.Mutex
	open  []string // what the last look found and could not take over
	taken []string // the latest takeovers of this process
	err   error    // of the last look
}

// Start looks once, and then goes on to look until ctx ends. Call it before the worker starts, so that the worker does
// not begin with what it cannot do.
func Start(ctx context.Context, c Config) *Keeper {
	if c.Every <= 0 {
		c.Every = time.Minute
	}
	k := &Keeper{Config: c, identity: identityPrefix + uuid.NewString(), known: map[string]bool{}}
	first, cancel := context.WithTimeout(ctx, firstLook)
	k.Look(first)
	cancel()
	go k.run(ctx)
	return k
}

func (k *Keeper) run(ctx context.Context) {
	timer := time.NewTicker(k.Every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		limited, cancel := context.WithTimeout(ctx, max(k.Every, firstLook))
		k.Look(limited)
		cancel()
	}
}

// Look takes over what there is to take over. What fails is logged and tried at the next look.
func (k *Keeper) Look(ctx context.Context) {
	k.looking.Lock()
	defer k.looking.Unlock()
	var open []string
	ledgerErr := k.ledger(ctx)
	if ledgerErr != nil {
		open = append(open, ledgerErr.Error())
		k.complain(ctx, ledgerErr)
	}
	left, err := k.prototypes(ctx)
	if err != nil {
		k.complain(ctx, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open, k.err = append(open, left...), err
}

func (k *Keeper) complain(ctx context.Context, err error) {
	if context.Cause(ctx) == context.Canceled {
		return // the worker stops
	}
	k.Log.Warn("could not take over what another program began; it is tried again", "queue", k.TaskQueue, "reason", err)
}

// took remembers, counts and logs a takeover.
func (k *Keeper) took(what, text string, attrs ...any) {
	k.Log.Warn("took over: "+text, append([]any{"what", what, "queue", k.TaskQueue}, attrs...)...)
	if k.Count != nil {
		k.Count(what)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.taken = append(k.taken, time.Now().UTC().Format(time.RFC3339)+" "+text)
	k.taken = slices.Clone(k.taken[max(0, len(k.taken)-maxTaken):])
}

// Report says what is open and not taken over, and the latest takeovers of this process.
func (k *Keeper) Report() (open, taken []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.open), slices.Clone(k.taken), k.err
}

// requestID makes a takeover of a run one takeover, whichever of several workers asks and however often.
func requestID(run string, part any) string { return fmt.Sprintf("takeover-%s-%v", run, part) }
