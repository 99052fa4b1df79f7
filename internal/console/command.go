package console

import (
	"strings"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// DefaultServer is the address of Temporal that preemptctl reaches without a flag.
const DefaultServer = "localhost:7233"

// Target is the Temporal server, namespace and task queue that a command is for.
type Target struct{ Server, Namespace, Queue string }

// Command returns a command line of preemptctl, as a shell reads it, that reaches the target.
func (t Target) Command(args ...string) string {
	line := append([]string{"preemptctl"}, args...)
	add := func(flag, value, standard string) {
		if value != standard && value != "" {
			line = append(line, flag, value)
		}
	}
	if t.Server != "127.0.0.1:7233" { // the same
		add("--server", t.Server, DefaultServer)
	}
	add("--namespace", t.Namespace, preemption.DefaultNamespace)
	add("--queue", t.Queue, preemption.DefaultTaskQueue)
	for i, word := range line {
		if strings.ContainsAny(word, " \t\n\"'\\$`*?[](){}<>|&;#!~") || word == "" {
			line[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(line, " ")
}
