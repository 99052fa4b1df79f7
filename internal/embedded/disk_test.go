package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFullDiskIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustStart(t, Options{Dir: dir})
	if err := s.Writable(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", filepath.Join(dir, writeCheck)); err != nil { // every write to it finds no space left
		t.Fatal(err)
	}
	if err := s.Writable(); err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), dir) {
		t.Errorf("a full disk is reported as %v", err)
	}
	if err := s.Writable(); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestDamagedDataIsRefusedWithAWayOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Start(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4096 {
		data[i] = 'x'
	}
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "mv "+files[0]) || !strings.Contains(err.Error(), "preemptctl restore") {
		t.Fatalf("damaged data: %v", err)
	}
	if err := os.Rename(files[0], files[0]+".damaged"); err != nil {
		t.Fatal(err)
	}
	mustStart(t, Options{Dir: dir})
}
