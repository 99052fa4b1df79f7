package vcenter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// restoreTime is how long it may take to restore a tried attribute.
const restoreTime = 8 * time.Second

// Tried is the result of values of growing length.
type Tried struct {
	Accepted int   // the longest that was kept
	Refused  int   // the first that was not; 0: all were kept
	Why      error // of the refusal
}

// TryValues gives a VM's custom attribute values of these lengths, the shortest first, until one is refused or stored
// differently, and then removes it. An error means that the length could not be found out, or that a value
// may remain.
func (g *Gateway) TryValues(ctx context.Context, ref vsphere.Ref, name string, lengths []int, value func(length int) string) (t Tried, err error) {
	var written string
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTime)
		defer cancel()
		if back := g.undo(last, ref, name, written); back != nil {
			err = errors.Join(err, fmt.Errorf("the attribute of %s may still have a value that was tried: %w", ref.Value, back))
		}
	}()
	for _, n := range lengths {
		written = value(n)
		if t.Why = g.try(ctx, ref, name, written); t.Why == nil {
			t.Accepted = n
			continue
		}
		if KindOf(t.Why) == Unavailable || ctx.Err() != nil {
			return t, t.Why
		}
		t.Refused = n
		break
	}
	return t, nil
}

// try writes a value and reads it back.
func (g *Gateway) try(ctx context.Context, ref vsphere.Ref, name, value string) error {
	if err := g.Annotate(ctx, ref, name, value); err != nil {
		return err
	}
	now, err := g.Annotations(ctx, []vsphere.Ref{ref}, name)
	if err == nil && now[ref] != value {
		err = fmt.Errorf("of %d characters %d were kept", len(value), len(now[ref]))
	}
	return err
}

// undo removes the value, unless somebody wrote another one in the meantime. The last value that was written, and the
// one before it if the last was refused, begin with the same text.
func (g *Gateway) undo(ctx context.Context, ref vsphere.Ref, name, written string) error {
	now, err := g.Annotations(ctx, []vsphere.Ref{ref}, name)
	if err != nil {
		return err
	}
	value := now[ref]
	if value == "" || written[:min(len(written), triedAlike)] != value[:min(len(value), triedAlike)] {
		return nil
	}
	return g.Annotate(ctx, ref, name, "")
}

// triedAlike is how far the values that are tried are alike, whatever their length.
const triedAlike = 100
