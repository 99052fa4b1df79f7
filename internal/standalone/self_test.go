package standalone

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestSelfUUIDs(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"both byte orders": {"42107A5B-1B2C-3D4E-5F60-718293A4B5C6\n", []string{
			"42107a5b-1b2c-3d4e-5f60-718293a4b5c6", "5b7a1042-2c1b-4e3d-5f60-718293a4b5c6",
		}},
		"no UUID": {"Not Settable\n", nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := selfUUIDs(fstest.MapFS{"product_uuid": {Data: []byte(tc.text)}}); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	if got := selfUUIDs(fstest.MapFS{}); got != nil {
		t.Errorf("got %v from a machine that does not tell", got)
	}
}
