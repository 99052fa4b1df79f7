package standalone

import (
	"log/slog"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
)

func TestASimulationLogsOnlyWhatMatters(t *testing.T) {
	level := &slog.LevelVar{}
	level.Set(slog.LevelWarn)
	write := func(o options) string {
		tr := newTrial(t)
		l := tr.program.logger(o, level)
		l.Info("info")
		l.With("a", 1).WithGroup("g").Warn("warn", "b", 2)
		l.Warn(lateHeartbeat)
		level.Set(slog.LevelError)
		l.Warn("at the end")
		level.Set(slog.LevelWarn)
		return tr.errs.String()
	}
	text := config.Log{Format: "text"}
	tests := map[string]struct {
		o    options
		want int // lines
	}{
		"a simulation":            {options{simulate: true, set: config.Worker{Log: text}}, 1},
		"a simulation, debugging": {options{simulate: true, set: config.Worker{Log: config.Log{Format: "text", Debug: true}}}, 4},
		"a real vCenter":          {options{set: config.Worker{Log: text}}, 4},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := write(tc.o)
			n := 0
			for _, c := range got {
				if c == '\n' {
					n++
				}
			}
			if n != tc.want {
				t.Errorf("%d lines, want %d:\n%s", n, tc.want, got)
			}
		})
	}
}
