package config

import (
	"slices"
	"testing"
)

// Without allowedTags whoever may signal a workflow may name any tag, and so have any VM of the site turned off.
func TestTheShippedFilesNameTheTagsThatMayBeAskedFor(t *testing.T) {
	for _, name := range []string{"../../docs/preemption.example.yaml", "../../deploy/base/preemption.yaml", "../../deploy/standalone/preemption.yaml"} {
		t.Run(name, func(t *testing.T) {
			f, err := ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(f.Limits.AllowedTags, []string{"preemptible"}) {
				t.Errorf("allowed are %q", f.Limits.AllowedTags)
			}
			if got := f.Tags(); !slices.Equal(got, f.Limits.AllowedTags) {
				t.Errorf("the file names %q, and allows %q", got, f.Limits.AllowedTags)
			}
		})
	}
}
