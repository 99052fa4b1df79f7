package vcenter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// maxGuestInfo is how long a value may be, in bytes.
const maxGuestInfo = 32 << 10

// SetGuestInfo writes a key below "guestinfo." which VMware Tools in the guest can read; "" removes it. It
// waits for the reconfiguration. Kind Invalid: another key, or more than 32 KiB. About five calls.
func (g *Gateway) SetGuestInfo(ctx context.Context, ref vsphere.Ref, key, value string) error {
	return g.SetGuestInfos(ctx, key, map[vsphere.Ref]string{ref: value})[ref]
}

// ClearGuestInfo removes the key. It is no error that the VM does not have it.
func (g *Gateway) ClearGuestInfo(ctx context.Context, ref vsphere.Ref, key string) error {
	return g.SetGuestInfo(ctx, ref, key, "")
}

// SetGuestInfos is SetGuestInfo for many VMs side by side, each with a value of its own, and removes the other keys in the
// same reconfiguration; it returns the VMs that failed and why. A VM that hangs delays the answer until ctx ends, but does not
// make others fail. One call per VM, and as many to wait for all as AwaitOff needs. If an answer is lost, it
// reads the VM's value, and sets it again if necessary, for some ten seconds. After that AnswerLost of the error
// reports that the VM may have the value.
func (g *Gateway) SetGuestInfos(ctx context.Context, key string, values map[vsphere.Ref]string, removed ...string) map[vsphere.Ref]error {
	failed := g.setGuestInfos(ctx, key, values, removed)
	doubtful := make(map[vsphere.Ref]bool)
	for look, wait := 0, firstBackoff; ; look, wait = look+1, min(2*wait, longestBackoff) {
		var refs []vsphere.Ref
		for ref, err := range failed {
			doubtful[ref] = doubtful[ref] || unanswered(err)
			if unanswered(err) || doubtful[ref] && KindOf(err) == Busy { // busy with our earlier call
				refs = append(refs, ref)
			}
		}
		if len(refs) == 0 || look == lostLooks || !clock.Sleep(ctx, wait) {
			break
		}
		now, err := g.GuestInfo(ctx, refs, key)
		if err != nil {
			continue
		}
		again := make(map[vsphere.Ref]string)
		for _, ref := range refs {
			delete(failed, ref)
			if now[ref] != values[ref] {
				again[ref] = values[ref]
			}
		}
		maps.Copy(failed, g.setGuestInfos(ctx, key, again, removed))
	}
	for ref, err := range failed {
		if doubtful[ref] {
			failed[ref] = &lostAnswer{err}
		}
	}
	return failed
}

// lostLooks is how often a VM is read after a lost answer.
const lostLooks = 6

// unanswered reports whether a change may have been made although it failed.
func unanswered(err error) bool {
	return KindOf(err).Outage() || TaskLost(err) || errors.Is(err, context.Canceled)
}

// lostAnswer is the error of a change that may or may not have been made.
type lostAnswer struct{ error }

// Unwrap returns the last attempt's error.
func (e *lostAnswer) Unwrap() error { return e.error }

// AnswerLost reports whether the change that failed with err may still have been made.
func AnswerLost(err error) bool {
	var lost *lostAnswer
	return errors.As(err, &lost)
}

func (g *Gateway) setGuestInfos(ctx context.Context, key string, values map[vsphere.Ref]string, removed []string) map[vsphere.Ref]error {
	var (
		mu     sync.Mutex
		waits  []Wait
		failed = make(map[vsphere.Ref]error)
		group  sync.WaitGroup
		turns  = make(chan struct{}, g.cfg.MaxConcurrentCalls)
	)
	for ref, value := range values {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			task, err := g.setGuestInfo(ctx, ref, key, value, removed)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[ref] = err
			} else {
				waits = append(waits, Wait{VM: ref, Task: task})
			}
		})
	}
	group.Wait()
	// Its error is that of the VMs whose tasks were not seen to end.
	unended, _ := g.awaitTasks(ctx, setsGuestInfo, waits)
	maps.Copy(failed, unended)
	return failed
}

const setsGuestInfo = "set a guest key of"

func (g *Gateway) setGuestInfo(ctx context.Context, ref vsphere.Ref, key, value string, removed []string) (task vsphere.Ref, err error) {
	options := []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}}
	for _, other := range removed {
		options = append(options, &types.OptionValue{Key: other, Value: ""})
	}
	for _, o := range options {
		if err := checkGuestKey(o.GetOptionValue().Key); err != nil {
			return task, &Error{Op: setsGuestInfo, Object: g.names.describe(ref), Kind: Invalid, Err: err}
		}
	}
	if len(value) > maxGuestInfo {
		err := fmt.Errorf("the value of %s has %d bytes, at most %d are allowed", key, len(value), maxGuestInfo)
		return task, &Error{Op: setsGuestInfo, Object: g.names.describe(ref), Kind: Invalid, Err: err}
	}
	err = g.onVM(ctx, setsGuestInfo, ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.ReconfigVM_Task(ctx, s.client, &types.ReconfigVM_Task{
			This: toMoRef(ref),
			Spec: types.VirtualMachineConfigSpec{ExtraConfig: options},
		})
		if err == nil {
			task = fromMoRef(res.Returnval)
		}
		return err
	})
	return task, err
}

var guestKey = regexp.MustCompile(`^guestinfo\.[A-Za-z0-9._-]+$`)

func checkGuestKey(key string) error {
	if !guestKey.MatchString(key) {
		return fmt.Errorf("%q is no guest key: guestinfo. and letters, digits, dots, dashes or underscores", key)
	}
	return nil
}

// GuestInfo reads a key below "guestinfo." of many VMs with one call. VMs that do not have it, or that do
// not exist, are absent. Kind Invalid: another key.
func (g *Gateway) GuestInfo(ctx context.Context, refs []vsphere.Ref, key string) (map[vsphere.Ref]string, error) {
	values := make(map[vsphere.Ref]string)
	if len(refs) == 0 {
		return values, nil
	}
	c := call{op: "read a guest key of", object: g.describeAll(refs)}
	if err := checkGuestKey(key); err != nil {
		return nil, &Error{Op: c.op, Object: c.object, Kind: Invalid, Err: err}
	}
	path := fmt.Sprintf("config.extraConfig[%q]", key)
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: vsphere.TypeVM, PathSet: []string{path}}}}
	for _, ref := range unique(slices.Clone(refs)) {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref)})
	}
	objects, err := g.retrieve(ctx, c, spec)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		option, _ := o.props[path].(types.OptionValue)
		if value, ok := option.Value.(string); ok && value != "" {
			values[o.ref] = value
		}
	}
	return values, nil
}
