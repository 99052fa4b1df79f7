package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/headers"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	persistencesql "go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
)

// This file holds everything that touches Temporal's SQLite plugin and schema, which "may receive breaking changes".

const (
	// connLifetime is how long the plugin may keep a connection to a file. The plugin never closes its pools, so this
	// bounds how long a stopped server holds its file open.
	connLifetime = 10 * time.Minute
	busyTimeout  = 10 * time.Second
)

var errLocked = errors.New("held by another process")

// store is the database of one server: the configuration that opens it and the lock on it.
type store struct {
	name   string // for messages
	config *config.SQL
	unlock func()
}

// openStore makes the database ready: locked, with a schema and with the namespace.
func openStore(ctx context.Context, o Options) (_ *store, err error) {
	db := memoryStore()
	if !o.InMemory {
		if db, err = fileStore(ctx, o.Dir, o.RelaxedSync); err != nil {
			return nil, err
		}
	}
	if err := ensureNamespace(db.config, o); err != nil {
		db.close()
		return nil, damaged(db.name, fmt.Errorf("register namespace %q in %s: %w", o.Namespace, db.name, err))
	}
	return db, nil
}

func memoryStore() *store {
	return &store{
		name:   "memory",
		unlock: func() {},
		config: &config.SQL{
			PluginName:        sqliteplugin.PluginName,
			DatabaseName:      "embedded-" + uuid.NewString(),
			ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"},
		},
	}
}

// fileStore locks the file of this server version in dir and creates it when missing. Files are not migrated between
// server versions, so each version has its own.
func fileStore(ctx context.Context, dir string, relaxed bool) (_ *store, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder: %w: choose another --data folder", err)
	}
	path := filepath.Join(dir, "temporal-"+headers.ServerVersion+".db")
	unlock, err := lockFile(path + ".lock")
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("%s is in use by another process: stop that one or choose another --data folder", path)
	}
	if err != nil {
		return nil, err
	}
	if err := ensureSchema(ctx, path); err != nil {
		unlock()
		return nil, damaged(path, err)
	}
	return &store{name: path, unlock: unlock, config: fileConfig(path, relaxed)}, nil
}

// fileConfig opens path. All attributes that are not SQLite URI parameters become pragmas. The last, which SQLite does
// not know and therefore ignores, makes the address unique: the plugin keeps its pools by address and for ever, and one
// left from an earlier start may point at a file that has since been deleted and made anew.
func fileConfig(path string, relaxed bool) *config.SQL {
	synchronous := "full"
	if relaxed {
		synchronous = "normal"
	}
	return &config.SQL{
		PluginName:      sqliteplugin.PluginName,
		DatabaseName:    path,
		MaxConnLifetime: connLifetime,
		ConnectAttributes: map[string]string{
			"mode":           "rw",
			"busy_timeout":   strconv.FormatInt(busyTimeout.Milliseconds(), 10),
			"journal_mode":   "wal",
			"synchronous":    synchronous,
			"embedded_start": strconv.FormatInt(time.Now().UnixNano(), 10),
		},
	}
}

// ensureSchema inspects the file, or creates it with all tables or not at all.
func ensureSchema(ctx context.Context, path string) error {
	_, err := os.Stat(path)
	if err == nil {
		return inspect(ctx, path)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = createSchema(ctx, path)
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return nil
}

// createSchema makes the file beside and renames it when it is complete and on disk.
func createSchema(ctx context.Context, path string) error {
	if err := setAside(path); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeSchema(ctx, tmp); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeSchema makes the tables in one transaction on a connection of its own, because the plugin would keep its
// connection, and with it the temporary name, for ever.
func writeSchema(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := sqlite.SetupSchemaOnDB(schemaWriter{tx: tx}); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// schemaWriter is as much of a database as setting up the schema uses: Exec.
type schemaWriter struct {
	sqlplugin.AdminDB
	tx *sql.Tx
}

func (w schemaWriter) Exec(stmt string, args ...any) error {
	_, err := w.tx.Exec(stmt, args...)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ensureNamespace registers the namespace where it is missing, before the server starts: so it is known from the first
// moment, without the delay of the server's namespace cache.
func ensureNamespace(cfg *config.SQL, o Options) error {
	ns, err := sqlite.NewNamespaceConfig(clusterName, o.Namespace, false, o.SearchAttributes)
	if err != nil {
		return err
	}
	ns.Detail.Config.Retention = durationpb.New(o.Retention)
	return sqlite.CreateNamespaces(cfg, ns)
}

// close gives the file free, with all its content in the one file, or the memory.
func (s *store) close() {
	defer s.unlock()
	db, err := persistencesql.NewSQLAdminDB(sqlplugin.DbKindUnknown, s.config, resolver.NewNoopResolver(),
		log.NewNoopLogger(), metrics.NoopMetricsHandler)
	if err != nil {
		return // nothing was opened
	}
	defer func() { _ = db.Close() }()
	if s.config.ConnectAttributes["mode"] == "memory" {
		_ = db.DropAllTables(s.config.DatabaseName)
		_ = db.Exec("VACUUM")
		return
	}
	_ = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
}
