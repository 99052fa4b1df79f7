package vcenter

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// maxGuestInfo is how long a value may be, in bytes.
const maxGuestInfo = 32 << 10

// SetGuestInfo writes a key below "guestinfo." which VMware Tools in the guest can read; "" removes it. It
// waits for the reconfiguration. Kind Invalid: another key, or more than 32 KiB. About five calls.
func (g *Gateway) SetGuestInfo(ctx context.Context, ref policy.Ref, key, value string) error {
	return g.SetGuestInfos(ctx, key, map[policy.Ref]string{ref: value})[ref]
}

// ClearGuestInfo removes the key. It is no error that the VM does not have it.
func (g *Gateway) ClearGuestInfo(ctx context.Context, ref policy.Ref, key string) error {
	return g.SetGuestInfo(ctx, ref, key, "")
}

// SetGuestInfos is SetGuestInfo for many VMs side by side, each with a value of its own; it returns the
// VMs that failed and why. One call per VM, and as many to wait for all as AwaitOff needs.
func (g *Gateway) SetGuestInfos(ctx context.Context, key string, values map[policy.Ref]string) map[policy.Ref]error {
	var (
		mu     sync.Mutex
		waits  []Wait
		failed = make(map[policy.Ref]error)
		group  sync.WaitGroup
		turns  = make(chan struct{}, g.cfg.MaxConcurrentCalls)
	)
	for ref, value := range values {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			task, err := g.setGuestInfo(ctx, ref, key, value)
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
	ended, err := g.awaitTasks(ctx, setsGuestInfo, waits)
	for _, w := range waits {
		switch {
		case ended[w.VM] != nil:
			failed[w.VM] = ended[w.VM]
		case err != nil: // it may have ended well, but nobody saw it
			failed[w.VM] = err
		}
	}
	return failed
}

const setsGuestInfo = "set a guest key of"

func (g *Gateway) setGuestInfo(ctx context.Context, ref policy.Ref, key, value string) (task policy.Ref, err error) {
	if err := checkGuestKey(key); err != nil {
		return task, &Error{Op: setsGuestInfo, Object: g.names.describe(ref), Kind: Invalid, Err: err}
	}
	if len(value) > maxGuestInfo {
		err := fmt.Errorf("the value of %s has %d bytes, at most %d are allowed", key, len(value), maxGuestInfo)
		return task, &Error{Op: setsGuestInfo, Object: g.names.describe(ref), Kind: Invalid, Err: err}
	}
	err = g.onVM(ctx, setsGuestInfo, ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.ReconfigVM_Task(ctx, s.client, &types.ReconfigVM_Task{
			This: toMoRef(ref),
			Spec: types.VirtualMachineConfigSpec{
				ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}},
			},
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
func (g *Gateway) GuestInfo(ctx context.Context, refs []policy.Ref, key string) (map[policy.Ref]string, error) {
	values := make(map[policy.Ref]string)
	if len(refs) == 0 {
		return values, nil
	}
	c := call{op: "read a guest key of", object: g.describeAll(refs)}
	if err := checkGuestKey(key); err != nil {
		return nil, &Error{Op: c.op, Object: c.object, Kind: Invalid, Err: err}
	}
	path := fmt.Sprintf("config.extraConfig[%q]", key)
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: policy.TypeVM, PathSet: []string{path}}}}
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
