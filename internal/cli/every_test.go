package cli_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

func TestAnEmptyValueOfAnyFlagIsWrongUsage(t *testing.T) {
	t.Parallel()
	nowhere := cli.Options{Env: environment{"TEMPORAL_URL": "127.0.0.1:1"}}
	seen := 0
	for _, c := range cli.CommandLines() {
		for _, flag := range c.Flags {
			if flag == "help" || flag == "version" || slices.Contains(cli.EmptyMayStand, flag) {
				continue
			}
			seen++
			args := slices.Concat(c.Path, c.Args, []string{"--" + flag + "="})
			got := preemptctl(t, nowhere, args...)
			if got.code != 2 || !strings.Contains(got.stderr, flag) {
				t.Errorf("preemptctl %s: exit code %d: %s", strings.Join(args, " "), got.code, got.stderr)
			}
		}
	}
	if seen < 300 {
		t.Errorf("only %d flags were tried", seen)
	}
}
