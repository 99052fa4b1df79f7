package intake

import (
	"encoding/json"
	"os"
	"testing"
)

// documented is the request of the documentation, whose event is of vCenter 10.161.164.224.
func documented(t *testing.T) json.RawMessage {
	t.Helper()
	b, err := os.ReadFile("../../../testdata/workflow-request-1.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
