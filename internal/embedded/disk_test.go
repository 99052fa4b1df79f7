package embedded

import (
	"bytes"
	"errors"
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
	for name, damage := range map[string]func(data []byte) []byte{
		"its beginning is overwritten": func(data []byte) []byte { return append(bytes.Repeat([]byte("x"), 4096), data[4096:]...) },
		"it is cut short":              func(data []byte) []byte { return data[:len(data)/2] },
		"it is empty":                  func([]byte) []byte { return nil },
		"pages in it are lost": func(data []byte) []byte { // of tables that are read when there is work
			clear(data[len(data)/2:])
			return data
		},
	} {
		t.Run(name, func(t *testing.T) {
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
			if err := os.WriteFile(files[0], damage(data), 0o600); err != nil {
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
		})
	}
}

func TestWhatWasBesideAnotherFileIsNotTakenForTheNewOnes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Start(t.Context(), Options{Dir: dir, Namespace: "earlier"})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	log, err := os.ReadFile(files[0] + "-wal") // as after kill -9
	if err != nil || len(log) == 0 {
		t.Fatal(len(log), err)
	}
	s.Stop()
	if err := errors.Join(os.Remove(files[0]), os.WriteFile(files[0]+"-wal", log, 0o600)); err != nil {
		t.Fatal(err)
	}
	mustStart(t, Options{Dir: dir})
	kept, err := os.ReadFile(files[0] + ".damaged-wal")
	if err != nil || !bytes.Equal(kept, log) {
		t.Errorf("%d bytes kept of %d: %v", len(kept), len(log), err)
	}
}
