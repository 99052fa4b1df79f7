package preemption_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// clipping is how texts are shortened by hand: a part of a text with the sign that it was cut, or made valid again.
var clipping = regexp.MustCompile(`ToValidUTF8|\[:[^\]]*\] ?\+ ?"\\?n?…"`)

// Text that is cut in the middle of a character makes Temporal refuse the workflow's details: one function cuts all.
func TestTextIsClippedByOneFunction(t *testing.T) {
	allowed := map[string]bool{
		"internal/shown/clip.go":              true,
		"internal/preempt/payload/payload.go": true, // by its length in JSON, character by character
		// The simulator imports nothing of ours, and makes what it reads from files valid.
		"internal/simulation/saved.go": true,
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || allowed[filepath.ToSlash(path)] {
			return err
		}
		text, err := os.ReadFile(path)
		for i, line := range strings.Split(string(text), "\n") {
			if clipping.MatchString(line) {
				t.Errorf("%s:%d shortens text by itself: use shown.Clip", path, i+1)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
