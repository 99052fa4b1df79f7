package telemetry

import (
	"bytes"
	"encoding/json"
	"runtime/debug"
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	for name, tc := range map[string]struct {
		format string
		debug  bool
		want   []string
		absent []string
	}{
		"JSON by default, without debug":   {"", false, []string{`"msg":"hello"`, `"vm":"a\nb"`}, []string{"detail"}},
		"JSON with debug":                  {JSON, true, []string{`"msg":"detail"`, `"level":"DEBUG"`}, nil},
		"text":                             {Text, false, []string{"msg=hello", `vm="a\nb"`}, []string{"{", "detail"}},
		"text with debug shows the detail": {Text, true, []string{"msg=detail"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			l := New(&out, tc.format, tc.debug)
			l.Info("hello", "vm", "a\nb")
			l.Debug("detail")
			for _, want := range tc.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the log lacks %q: %s", want, out.String())
				}
			}
			for _, absent := range tc.absent {
				if strings.Contains(out.String(), absent) {
					t.Errorf("the log has %q: %s", absent, out.String())
				}
			}
		})
	}
}

func TestForTemporalWritesTheSDKsLinesToOurLog(t *testing.T) {
	var out bytes.Buffer
	ForTemporal(New(&out, JSON, false)).Warn("Failed to poll", "Namespace", "n")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if line["component"] != "temporal-sdk" || line["Namespace"] != "n" || line["level"] != "WARN" {
		t.Errorf("got %v", line)
	}
}

func TestBuild(t *testing.T) {
	stamped := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v0.9.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
	}}
	for name, tc := range map[string]struct {
		build    Build
		info     *debug.BuildInfo
		text, id string
	}{
		"what Go stamped": {Build{}, stamped, "v0.9.0 (commit 0123456789abcdef, 2026-01-02T03:04:05Z, go1.26.8)", "v0.9.0-0123456789ab"},
		"the linker's values come first": {
			Build{Version: "v1.0.0", Commit: "abc", Date: "today"},
			stamped,
			"v1.0.0 (commit abc, today, go1.26.8)", "v1.0.0-abc",
		},
		"nothing known":                         {Build{Version: "devel"}, &debug.BuildInfo{}, "devel", "devel"},
		"a pseudo-version already names itself": {Build{Version: "v0.0.0-2026-abcdefabcdef", Commit: "abcdefabcdef99"}, &debug.BuildInfo{}, "v0.0.0-2026-abcdefabcdef (commit abcdefabcdef99)", "v0.0.0-2026-abcdefabcdef"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.build.complete(tc.info)
			if got := tc.build.String(); got != tc.text {
				t.Errorf("got %q, want %q", got, tc.text)
			}
			if got := tc.build.ID(); got != tc.id {
				t.Errorf("got id %q, want %q", got, tc.id)
			}
		})
	}
	if b := ReadBuild("", "", ""); b.Version == "" || b.Go == "" {
		t.Errorf("a test binary has a version and a Go version, got %+v", b)
	}
}
