package config_test

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
)

func TestSelfUUIDs(t *testing.T) {
	for name, tc := range map[string]struct {
		files fstest.MapFS
		want  []string
	}{
		"both byte orders": {
			fstest.MapFS{"product_uuid": {Data: []byte("421C4C56-0102-0304-A5A6-0708090A0B0C\n")}},
			[]string{"421c4c56-0102-0304-a5a6-0708090a0b0c", "564c1c42-0201-0403-a5a6-0708090a0b0c"},
		},
		"a machine that does not tell": {fstest.MapFS{}, nil},
		"no UUID":                      {fstest.MapFS{"product_uuid": {Data: []byte("Not Settable")}}, nil},
		"a UUID cut short":             {fstest.MapFS{"product_uuid": {Data: []byte("421C4C56-0102")}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := config.SelfUUIDs(tc.files); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
