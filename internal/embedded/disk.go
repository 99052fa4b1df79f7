package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// roomForWrites is how much is written, and taken away again, to see whether the data folder takes it.
const roomForWrites = 256 << 10

// writeCheck is the name of the file in the data folder that is written for it.
const writeCheck = "write-check"

// Writable reports why nothing can be written to the data folder, such as a full disk, or nil. It writes a small file
// and removes it.
func (s *Server) Writable() error {
	if s.dir == "" {
		return nil // in memory
	}
	path := filepath.Join(s.dir, writeCheck)
	err := writeThrough(path)
	if err = errors.Join(err, os.Remove(path)); err != nil {
		return fmt.Errorf("the data folder %s takes no writes, so that no work is done: free room on its disk: %w", s.dir, err)
	}
	return nil
}

func writeThrough(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, roomForWrites))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// The codes of SQLite for a file that is no database, or a damaged one: https://sqlite.org/rescode.html.
const (
	sqliteCorrupt = 11
	sqliteNotADB  = 26
)

// damaged adds to the error of a file whose content is damaged what to do about it.
func damaged(path string, err error) error {
	var coded interface{ Code() int }
	known := errors.As(err, &coded) && (coded.Code()&0xff == sqliteCorrupt || coded.Code()&0xff == sqliteNotADB)
	if !known && (err == nil || !strings.Contains(err.Error(), "malformed") && !strings.Contains(err.Error(), "not a database")) {
		return err
	}
	return fmt.Errorf("%w\nThe data of the embedded Temporal is damaged. Restore the file from a backup, or begin anew: move it away, with its "+
		"-wal and -shm if there are any,\n  mv %s %s.damaged\nand start again. Lost are then running rounds, schedules, cooldowns and histories. What was preempted "+
		"is recorded on the VMs: preemptctl restore --dry-run shows who would come back", err, path, path)
}
