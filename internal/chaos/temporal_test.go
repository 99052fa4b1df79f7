package chaos

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/embedded"
	"github.com/vsphere-preemption/vsphere-preemption/internal/released"
)

// temporal is a Temporal server with its storage, in processes of their own. After kill -9 it starts again on what is
// stored.
type temporal interface {
	hostPort() string
	restart()         // kills the server and starts it
	restartDatabase() // kills the database under the server and starts it
}

// serverEnv marks a process of this test binary that is a Temporal server on SQLite, and runs no test.
const serverEnv = "CHAOS_SERVER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverEnv); dir != "" {
		os.Exit(serve(dir))
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = f.Value.Set("6") // worlds wait most of the time
	}
	code := m.Run()
	_ = os.RemoveAll(built.dir)
	os.Exit(code)
}

// serve is a Temporal server on SQLite in a folder, until its input ends: then its parent is gone.
func serve(dir string) int {
	port, err := strconv.Atoi(os.Getenv(serverEnv + "_PORT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := embedded.Start(context.Background(), embedded.Options{Dir: dir, Port: port, RequirePort: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("serving")
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Stop()
	return 0
}

// child is a process that is killed with the test.
type child struct {
	*released.Process
	t    *testing.T
	name string
}

// spawn starts a process in a group of its own.
func spawn(t *testing.T, name string, cmd *exec.Cmd) *child {
	t.Helper()
	var log *os.File
	if *logs != "" {
		file, err := os.OpenFile(filepath.Join(*logs, strings.ReplaceAll(name, " ", "-")+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		log = file
	}
	p, err := released.Start(cmd, log)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	c := &child{Process: p, t: t, name: name}
	t.Cleanup(c.kill)
	return c
}

// kill ends the process and those that it started, as kill -9 does.
func (c *child) kill() {
	c.Kill()
	if words := c.LastWords(); c.t.Failed() && words != "" {
		c.t.Logf("the last words of %s:\n%s", c.name, words)
	}
}

// sqlite is the embedded server on its file.
type sqlite struct {
	t    *testing.T
	dir  string
	port int
	proc *child
}

func startSQLite(t *testing.T) temporal {
	t.Helper()
	s := &sqlite{t: t, dir: t.TempDir(), port: freePort(t)}
	s.start()
	return s
}

func (s *sqlite) hostPort() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

func (s *sqlite) start() {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"="+s.dir, fmt.Sprintf("%s_PORT=%d", serverEnv, s.port))
	if _, err := cmd.StdinPipe(); err != nil { // it closes when this process ends, however it does
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.proc = spawn(s.t, "Temporal on SQLite", cmd)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		s.t.Fatalf("Temporal on SQLite does not start: %v\n%s", err, s.proc.LastWords())
	}
}

func (s *sqlite) restart() {
	s.proc.kill()
	s.start()
}

// restartDatabase is restart: the database is in the server.
func (s *sqlite) restartDatabase() { s.restart() }

// postgres is the Temporal server of deploy/postgres on a PostgreSQL of its own.
type postgres struct {
	t        *testing.T
	dir      string
	programs string // PostgreSQL's
	ports    int    // the first of those of this server and its database
	database *child
	server   *child
}

const deploy = "../../deploy/postgres"

// startPostgreSQL makes a database cluster as deploy/postgres describes, and starts Temporal on it.
func startPostgreSQL(t *testing.T) temporal {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
	}
	p := &postgres{t: t, dir: t.TempDir(), programs: filepath.Dir(found[len(found)-1]), ports: freePorts(t)}
	for _, tool := range []string{"server", "tools/sql"} {
		p.run(exec.Command("go", "build", "-C", filepath.Join(deploy, "tools"), "-o", filepath.Join(p.dir, filepath.Base(tool)), "go.temporal.io/server/cmd/"+tool))
	}
	data := filepath.Join(p.dir, "db")
	p.run(exec.Command("install", "-d", "-m", "700", data))
	if os.Geteuid() == 0 {
		p.run(exec.Command("chown", "postgres", data))
		for dir := p.dir; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
			p.run(exec.Command("chmod", "755", dir))
		}
	}
	p.run(p.as("initdb", "-D", filepath.Join(data, "data"), "-A", "trust", "-U", "postgres"))
	p.startDatabase()
	for _, sql := range []string{
		"create role temporal login", "create database temporal owner temporal", "create database temporal_visibility owner temporal",
	} {
		p.run(exec.Command("psql", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(p.dbPort()), "-U", "postgres", "-d", "postgres", "-c", sql))
	}
	schema := exec.Command(filepath.Join(deploy, "schema.sh"))
	schema.Env = append(os.Environ(), "TEMPORAL_SQL_TOOL="+filepath.Join(p.dir, "sql"), p.address(), "POSTGRES_PASSWORD=none")
	p.run(schema)
	p.configure()
	p.start()
	return p
}

func (p *postgres) dbPort() int     { return p.ports + 99 }
func (p *postgres) address() string { return fmt.Sprintf("POSTGRES_ADDRESS=127.0.0.1:%d", p.dbPort()) }

// hostPort is that of the frontend, 7233 in the documented configuration.
func (p *postgres) hostPort() string { return fmt.Sprintf("127.0.0.1:%d", p.ports+33) }

// as is a command of PostgreSQL, which refuses to be run by root.
func (p *postgres) as(program string, args ...string) *exec.Cmd {
	path := filepath.Join(p.programs, program)
	if os.Geteuid() != 0 {
		return exec.Command(path, args...)
	}
	return exec.Command("setpriv", append([]string{"--reuid=postgres", "--regid=postgres", "--init-groups", path}, args...)...)
}

func (p *postgres) run(cmd *exec.Cmd) {
	p.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

var ports = regexp.MustCompile(`\b(?:72|69)([0-9]{2})\b|\b8000\b`)

// configure writes the documented configuration with ports of our own: 72xx are the first hundred, 69xx the second.
func (p *postgres) configure() {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "temporal.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	moved := ports.ReplaceAllFunc(text, func(port []byte) []byte {
		n, _ := strconv.Atoi(string(port))
		switch n / 100 {
		case 72:
			n += p.ports - 7200
		case 69:
			n += p.ports + 100 - 6900
		default:
			n = p.ports + 98
		}
		return strconv.AppendInt(nil, int64(n), 10)
	})
	if err := os.WriteFile(filepath.Join(p.dir, "temporal.yaml"), moved, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *postgres) postmaster() *exec.Cmd {
	return p.as("postgres", "-D", filepath.Join(p.dir, "db", "data"), "-p", strconv.Itoa(p.dbPort()),
		"-k", filepath.Join(p.dir, "db"), "-c", "listen_addresses=127.0.0.1")
}

func (p *postgres) startDatabase() {
	p.t.Helper()
	p.database = spawn(p.t, "PostgreSQL", p.postmaster())
	p.answers("PostgreSQL", func() error {
		select {
		case <-p.database.Gone(): // children of the killed one still held its memory
			p.database = spawn(p.t, "PostgreSQL", p.postmaster())
		default:
		}
		return exec.Command("psql", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(p.dbPort()), "-U", "postgres", "-d", "postgres", "-c", "select 1").Run()
	})
}

func (p *postgres) start() {
	p.t.Helper()
	cmd := exec.Command(filepath.Join(p.dir, "server"), "--config-file", filepath.Join(p.dir, "temporal.yaml"), "--allow-no-auth", "start")
	cmd.Env = append(os.Environ(), p.address(), "POSTGRES_PASSWORD=none")
	p.server = spawn(p.t, "Temporal on PostgreSQL", cmd)
	p.answers("Temporal", func() error {
		c, err := net.DialTimeout("tcp", p.hostPort(), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

func (p *postgres) restart() {
	p.server.kill()
	p.start()
}

func (p *postgres) restartDatabase() {
	p.database.kill()
	p.startDatabase()
}

// answers waits until what was started answers.
func (p *postgres) answers(what string, try func() error) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not answer: %v", what, err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// freePorts returns the first of two hundred ports that are free, below those that the system gives to clients.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		first, taken := 12000+200*rand.IntN(80), false
		for port := first; port < first+200 && !taken; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if taken = err != nil; !taken {
				_ = l.Close()
			}
		}
		if !taken {
			return first
		}
	}
	t.Fatal("there are no two hundred free ports in a row")
	return 0
}
