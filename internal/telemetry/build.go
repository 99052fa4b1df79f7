package telemetry

import (
	"runtime/debug"
	"strings"
)

// Build identifies the build of a program.
type Build struct {
	Version string // v1.2.3, or a pseudo-version; "devel" where unknown
	Commit  string // "" if unknown
	Date    string // of the commit, RFC 3339; "" if unknown
	Go      string // the Go version
}

// ReadBuild returns the build. Values set by the linker (-ldflags "-X main.version=...") come first;
// empty values are taken from what Go stamps into every binary.
func ReadBuild(version, commit, date string) Build {
	b := Build{Version: version, Commit: commit, Date: date}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.complete(info)
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	return b
}

func (b *Build) complete(info *debug.BuildInfo) {
	b.Go = info.GoVersion
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && b.Commit == "":
			b.Commit = s.Value
		case s.Key == "vcs.time" && b.Date == "":
			b.Date = s.Value
		}
	}
}

// String writes the build for people: "v1.2.3 (commit abc, 2026-01-02T03:04:05Z, go1.26.8)".
func (b Build) String() string {
	var parts []string
	if b.Commit != "" {
		parts = append(parts, "commit "+b.Commit)
	}
	for _, s := range []string{b.Date, b.Go} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return b.Version
	}
	return b.Version + " (" + strings.Join(parts, ", ") + ")"
}

// ID names the build in one word, as Temporal records it with each step of a workflow.
func (b Build) ID() string {
	if b.Commit == "" || strings.Contains(b.Version, b.Commit[:min(12, len(b.Commit))]) {
		return b.Version
	}
	return b.Version + "-" + b.Commit[:min(12, len(b.Commit))]
}
