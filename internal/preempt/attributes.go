package preempt

import (
	"context"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
)

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
