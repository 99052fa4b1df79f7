package standalone

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
)

func TestTheDemoHasTheClustersThatPreemptctlOffers(t *testing.T) {
	if names := []string{contended, other}; !slices.Equal(names, demoapi.ClusterNames()) {
		t.Errorf("the demo has %q, preemptctl offers %q", names, demoapi.ClusterNames())
	}
}

func TestAWrongValueOfAFlagIsRefusedInPlainWords(t *testing.T) {
	for arg, want := range map[string]string{
		"--speed=abc":       `--speed "abc" is not a number, such as 1.5`,
		"--ui-port=web":     `--ui-port: "web" is no port: give 1 to 65535, or 0 for any free one`,
		"--simulate=really": `--simulate "really" is not true or false`,
		"-5":                "unknown flag: -5; ",
	} {
		_, _, err := Program{Args: []string{arg}, Env: []string{}, Stdout: io.Discard, Stderr: io.Discard}.options()
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", arg, err, want)
		}
	}
}
