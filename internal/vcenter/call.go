package vcenter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// call describes one call to vCenter for its limit and errors.
type call struct {
	op     string // verb phrase, "power off"
	object string // what it is done to
	wait   bool   // a long poll, held back to half of the limit
	parked bool   // vCenter holds it open until there is news, however long that takes: it takes no place in the limit
	write  bool   // must not be repeated by the transport on a broken connection
	alike  bool   // calls of this op take alike: each is about one object. Others take as long as they are large
	remedy string // what the operator can do
	needs  string // privileges, for a refusal that names none
}

// soap performs one SOAP call; f must make exactly one, as it is what the place in the limit, the time limit and
// the repetition after a lost session stand for.
func (g *Gateway) soap(ctx context.Context, c call, f func(context.Context, *soapSession) error) error {
	return run(ctx, g, c, g.soapSlot, f)
}

func run[T any](ctx context.Context, g *Gateway, c call, s *slot[T], f func(context.Context, T) error) error {
	if g.lifetime.Err() != nil {
		return &Error{Op: c.op, Object: c.object, Kind: Unavailable, Err: errClosed}
	}
	if !c.parked {
		release, err := g.limit.enter(ctx, c.wait)
		if err != nil {
			return interrupted(c, err)
		}
		defer release()
	}
	limited, cancel := context.WithTimeoutCause(ctx, g.cfg.CallTimeout, errCallTimeout)
	defer cancel()
	if !c.write {
		limited = withReplay(limited)
	}
	began := time.Now()
	err := inSession(limited, s, f)
	switch {
	case err == nil:
		g.contact.answered()
		if c.alike {
			g.limit.answered(c.op, began, time.Since(began))
		}
		return nil
	case ctx.Err() != nil:
		return interrupted(c, ctx.Err())
	case limited.Err() != nil:
		err = fmt.Errorf("no answer within %s: %w", g.cfg.CallTimeout, errCallTimeout)
	}
	if refusedForLoad(err) {
		g.limit.refused(began)
	}
	err = g.failure(c, err)
	if _, fast := tooFast(err); KindOf(err).Outage() && !fast {
		g.contact.failed(err)
	} else {
		g.contact.answered()
	}
	return err
}

// inSession runs f in the current session, and once more in a new one if the session was lost.
func inSession[T any](ctx context.Context, s *slot[T], f func(context.Context, T) error) error {
	for again := false; ; again = true {
		session, generation, err := s.get(ctx)
		if err != nil {
			return err
		}
		err = f(ctx, session)
		if !sessionLost(err) {
			return err
		}
		s.drop(generation)
		if again {
			return err
		}
	}
}

var (
	errCallTimeout = errors.New("vCenter call timed out")
	errClosed      = errors.New("the gateway is closed")
	errTaskFailed  = errors.New("the task failed without a reason")
)

// interrupted reports that the caller's context ended; errors.Is finds the context's error in it.
func interrupted(c call, err error) error {
	return fmt.Errorf("%s %s: %w", c.op, c.object, err)
}

// observe reports one attempt of a call to vCenter, on an object where it is known.
func (g *Gateway) observe(ctx context.Context, method, object string, began time.Time, err error) {
	code := "OK"
	switch {
	case err == nil:
	case sessionLost(err) && method == "POST session":
		code = string(InvalidLogin)
	case sessionLost(err):
		code = "SessionLost"
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errCallTimeout):
		code = "Cancelled"
	default:
		code = string(KindOf(err))
		if _, fast := tooFast(err); fast {
			code = "TooFast"
		}
	}
	g.cfg.Observe(method, code, time.Since(began))
	failed := code
	if err == nil {
		failed = ""
	}
	tracing.Called(ctx, "vcenter "+method, began, failed, slog.String("rpc.method", method), slog.String("vcenter.object", object))
}

// observed reports each SOAP call.
type observed struct {
	soap.RoundTripper
	g *Gateway
}

// RoundTrip implements soap.RoundTripper.
func (o observed) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	began := time.Now()
	err := o.RoundTripper.RoundTrip(ctx, req, res)
	method := strings.TrimSuffix(reflect.TypeOf(req).Elem().Name(), "Body") // *methods.PowerOffVM_TaskBody
	o.g.observe(ctx, method, objectOf(ctx, req), began, err)
	return err
}

// entities are the types of objects that spans name. The ids of collectors and filters hold that of the session.
var entities = []string{"VirtualMachine", "HostSystem", "ClusterComputeResource", "ComputeResource", "Datastore", "ResourcePool", "Folder", "Task"}

// objectOf returns the MoRef that a request is about, or else sent to, where somebody traces the call; "" where that is no
// entity.
func objectOf(ctx context.Context, body soap.HasFault) string {
	if !tracing.Recording(ctx) {
		return ""
	}
	req := reflect.ValueOf(body).Elem().FieldByName("Req")
	if req.Kind() != reflect.Pointer || req.IsNil() || req.Elem().Kind() != reflect.Struct {
		return ""
	}
	for _, name := range []string{"Entity", "This"} {
		field := req.Elem().FieldByName(name)
		if !field.IsValid() {
			continue
		}
		if ref, ok := field.Interface().(types.ManagedObjectReference); ok && slices.Contains(entities, ref.Type) {
			return ref.Value
		}
	}
	return ""
}

// enter takes a place in a semaphore; those who wait are served in order.
func enter(ctx context.Context, semaphore chan struct{}) error {
	select {
	case semaphore <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// contact remembers the results of the last calls.
type contact struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

func (c *contact) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.err = time.Now(), nil
}

func (c *contact) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *contact) last() (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at, c.err
}

// names remembers names of objects, for the texts of errors only.
type names struct {
	mu sync.Mutex
	of map[vsphere.Ref]string
}

const maxNames = 20000

func (n *names) learn(ref vsphere.Ref, name string) {
	if name == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil || len(n.of) > maxNames {
		n.of = make(map[vsphere.Ref]string)
	}
	n.of[ref] = name
}

// describe writes vm-12 (web-1), or vm-12 when the name is not known.
func (n *names) describe(ref vsphere.Ref) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name := n.of[ref]; name != "" {
		return fmt.Sprintf("%s (%s)", ref.Value, name)
	}
	return ref.Value
}
