package embedded

import (
	"context"
	"database/sql"
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

// errDamaged is the damage of a file that SQLite opens without a word.
var errDamaged = errors.New("it is damaged")

// inspect reports what is damaged in the file of a server: the server would start on much of that, and then do no work.
func inspect(ctx context.Context, path string) (err error) {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return errors.Join(err, fmt.Errorf("%s: %w: it is empty", path, errDamaged))
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var found string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return fmt.Errorf("look for damage in %s: %w", path, err)
	}
	if found != "ok" {
		return fmt.Errorf("%s: %w: %s", path, errDamaged, strings.TrimSpace(found))
	}
	return nil
}

// beside are the endings of the files that SQLite keeps beside a database.
var beside = []string{"-wal", "-shm"}

// setAside moves away what SQLite kept beside a database that is gone: it would be taken for the new one's.
func setAside(path string) error {
	var all []error
	for _, end := range beside {
		if err := os.Rename(path+end, path+".damaged"+end); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// damaged adds to the error of a file whose content is damaged what to do about it.
func damaged(path string, err error) error {
	var coded interface{ Code() int }
	known := errors.Is(err, errDamaged) ||
		errors.As(err, &coded) && (coded.Code()&0xff == sqliteCorrupt || coded.Code()&0xff == sqliteNotADB)
	if !known && (err == nil || !strings.Contains(err.Error(), "malformed") && !strings.Contains(err.Error(), "not a database")) {
		return err
	}
	return fmt.Errorf("%w\nThe data of the embedded Temporal is damaged. Restore the file from a backup, or begin anew: move it away,\n"+
		"  mv %s %s.damaged\nand start again. Lost are then running rounds, schedules, cooldowns and histories. What was preempted "+
		"is recorded on the VMs: preemptctl restore --dry-run shows who would come back", err, path, path)
}
