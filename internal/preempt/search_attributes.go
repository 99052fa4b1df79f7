package preempt

import (
	"context"
	"errors"
	"fmt"
	"sync"

	operatorservice "go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// attributeCheck remembers whether the search attributes are registered.
type attributeCheck struct {
	mu         sync.Mutex
	registered bool
}

// CheckAttributes finds out whether the namespace knows our search attributes. If it does not, the workflows do without
// them, so that an unprepared namespace never blocks one. The worker calls it at its start and from time to time.
func (e *Env) CheckAttributes(ctx context.Context, namespace string) error {
	list, err := searchAttributes(ctx, e.Temporal, namespace)
	if err != nil {
		return fmt.Errorf("list the search attributes of namespace %s: %w", namespace, err)
	}
	var missing []error
	for _, name := range SearchAttributes() {
		if list[name] != "Keyword" {
			missing = append(missing, fmt.Errorf("search attribute %s of type Keyword is not registered", name))
		}
	}
	e.attrs.mu.Lock()
	defer e.attrs.mu.Unlock()
	e.attrs.registered = len(missing) == 0
	return errors.Join(missing...)
}

// AttributesRegistered reports whether the namespace knows our search attributes.
func (e *Env) AttributesRegistered() bool {
	e.attrs.mu.Lock()
	defer e.attrs.mu.Unlock()
	return e.attrs.registered
}

// searchAttributes returns the custom search attributes of a namespace and their types.
func searchAttributes(ctx context.Context, c client.Client, namespace string) (map[string]string, error) {
	resp, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name, kind := range resp.GetCustomAttributes() {
		out[name] = kind.String()
	}
	return out, nil
}

// SearchAttributes are the Keyword search attributes that the workflows set where they are registered.
func SearchAttributes() []string { return preemptapi.SearchAttributes() }

// Upsert writes the memo, and the search attributes where they are registered.
func Upsert(ctx workflow.Context, attrs bool, alarmName, scope, state string) {
	if err := workflow.UpsertMemo(ctx, map[string]any{"alarm": alarmName, "scope": scope, "state": state}); err != nil {
		workflow.GetLogger(ctx).Warn("the memo was not written", "error", err)
	}
	if !attrs {
		return
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, SearchUpdates(alarmName, scope, state)...); err != nil {
		workflow.GetLogger(ctx).Warn("the search attributes were not written", "error", err)
	}
}

// SearchUpdates sets the search attributes of a workflow; an empty name or scope is left out.
func SearchUpdates(alarmName, scope, state string) []temporal.SearchAttributeUpdate {
	updates := []temporal.SearchAttributeUpdate{temporal.NewSearchAttributeKeyKeyword(preemptapi.SearchState).ValueSet(state)}
	if alarmName != "" {
		updates = append(updates, temporal.NewSearchAttributeKeyKeyword(preemptapi.SearchAlarm).ValueSet(alarmName))
	}
	if scope != "" {
		updates = append(updates, temporal.NewSearchAttributeKeyKeyword(preemptapi.SearchScope).ValueSet(scope))
	}
	return updates
}
