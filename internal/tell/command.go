package tell

import (
	"strings"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// Command is a command line of preemptctl for a namespace and a task queue. At which address it finds Temporal is the
// reader's own matter.
func Command(namespace, queue string, args ...string) string {
	line := append([]string{"preemptctl"}, args...)
	if namespace != preemption.DefaultNamespace {
		line = append(line, "--namespace", namespace)
	}
	if queue != preemption.DefaultTaskQueue {
		line = append(line, "--queue", queue)
	}
	for i, word := range line {
		if word == "" || strings.ContainsFunc(word, special) {
			line[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(line, " ")
}

// special reports characters that a shell does not take as they are.
func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./@:,=+", r)
}
