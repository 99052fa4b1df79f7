package shown

import (
	"slices"
	"testing"
)

func TestNearNamesThoseThatWerePerhapsMeant(t *testing.T) {
	names := []string{"cluster-b", "storage", "Cluster-A", "cluster-a2", "edge"}
	for name, want := range map[string][]string{
		"cluster-a": {"Cluster-A", "cluster-a2", "cluster-b"},
		"clutser-b": {"cluster-b", "Cluster-A"},
		"stor":      {"storage"},
		"nothing":   nil,
	} {
		if got := Near(name, names); !slices.Equal(got[:min(len(want), len(got))], want) || want == nil && got != nil {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
