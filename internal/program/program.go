// Package program holds what the commands have in common: exit codes, the flags of the servers, and how a configuration
// is refused.
package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
)

// The exit codes of all commands.
const (
	Done        = 0
	Failed      = 1
	Usage       = 2 // wrong usage or configuration
	NotFound    = 3
	Refused     = 4
	Interrupted = 130
)

// Identity names this process in Temporal's history and list of pollers.
func Identity(name string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d@%s", name, os.Getpid(), host)
}

// Server is the command line of a program that serves: --config, --version and --help.
type Server struct {
	Name           string
	Usage          string // what --help prints
	Args           []string
	Stdout, Stderr io.Writer
	Build          fmt.Stringer // of which version the program is
}

// Flags returns the path of the configuration file, "" where none is given. done reports that the command line was
// answered already, and that the program ends with the code.
func (s Server) Flags() (path string, code int, done bool) {
	set := flag.NewFlagSet(s.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&path, "config", "", "")
	set.StringVar(&path, "f", "", "")
	version := set.Bool("version", false, "")
	err := set.Parse(s.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(s.Stdout, s.Usage)
		return "", Done, true
	case err == nil && set.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(s.Stderr, "%s: %v; see %s --help\n", s.Name, err, s.Name)
		return "", Usage, true
	}
	if *version {
		fmt.Fprintln(s.Stdout, s.Name, s.Build)
		return "", Done, true
	}
	return path, Done, false
}

// Refuse lists every problem of the configuration, and returns the exit code.
func (s Server) Refuse(err error) int {
	fmt.Fprintf(s.Stderr, "%s: the configuration cannot be used:\n", s.Name)
	for _, problem := range config.Problems(err) {
		fmt.Fprintf(s.Stderr, "  - %v\n", problem)
	}
	return Usage
}
