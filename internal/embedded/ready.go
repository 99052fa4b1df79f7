package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
)

const (
	readyTimeout = 30 * time.Second
	readyPoll    = 10 * time.Millisecond
)

// awaitReady returns when the frontend answers for the namespace and the search attributes can be used.
func awaitReady(ctx context.Context, hostPort string, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	c, err := client.NewLazyClient(client.Options{
		HostPort:  hostPort,
		Namespace: o.Namespace,
		Logger:    sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return fmt.Errorf("connect to embedded Temporal on %s: %w", hostPort, err)
	}
	defer c.Close()

	if err := retry(ctx, func() error { return countWorkflows(ctx, c, o.Namespace, "") }); err != nil {
		return fmt.Errorf("embedded Temporal on %s does not answer for namespace %q: %w", hostPort, o.Namespace, err)
	}
	if err := ensureSearchAttributes(ctx, c, o); err != nil {
		return fmt.Errorf("search attributes of namespace %q: %w", o.Namespace, err)
	}
	return nil
}

// countWorkflows passes through every part of the server that must be up: frontend, namespaces and visibility.
func countWorkflows(ctx context.Context, c client.Client, namespace, query string) error {
	if _, err := c.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
		return err
	}
	_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: query})
	return err
}

// ensureSearchAttributes adds what is missing. Types are compared first, because adding an attribute that exists with
// another type is silently accepted by the server.
func ensureSearchAttributes(ctx context.Context, c client.Client, o Options) error {
	if len(o.SearchAttributes) == 0 {
		return nil
	}
	have, err := c.OperatorService().ListSearchAttributes(ctx,
		&operatorservice.ListSearchAttributesRequest{Namespace: o.Namespace})
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	missing, err := missingAttributes(o.SearchAttributes, have)
	if err != nil || len(missing) == 0 {
		return err
	}
	if _, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: o.Namespace, SearchAttributes: missing,
	}); err != nil {
		return fmt.Errorf("add %v: %w", slices.Sorted(maps.Keys(missing)), err)
	}
	for name := range missing {
		query := "`" + name + "` IS NOT NULL"
		if err := retry(ctx, func() error { return countWorkflows(ctx, c, o.Namespace, query) }); err != nil {
			return fmt.Errorf("%s was added but cannot be used: %w", name, err)
		}
	}
	return nil
}

func missingAttributes(want map[string]enums.IndexedValueType, have *operatorservice.ListSearchAttributesResponse,
) (map[string]enums.IndexedValueType, error) {
	missing := map[string]enums.IndexedValueType{}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := have.GetSystemAttributes()[name]; ok {
			return nil, fmt.Errorf("%s is reserved by Temporal: choose another name", name)
		}
		got, ok := have.GetCustomAttributes()[name]
		switch {
		case !ok:
			missing[name] = want[name]
		case got != want[name]:
			return nil, fmt.Errorf("%s has type %s, wanted %s: rename one, or start with a new data folder", name, got, want[name])
		}
	}
	return missing, nil
}

// retry repeats f until it succeeds or ctx ends, and then reports the last error of f.
func retry(ctx context.Context, f func() error) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
