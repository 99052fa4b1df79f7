package standalone

import (
	"testing"
)

// The commands of the documents are run on one simulated site: those of the fenced blocks marked sh and crontab, the
// examples of docs/cli.md, and the command lines within the text. Our own programs run in this process. A command must
// end with 0, or with the N of a comment "exit code N" behind it.
func TestTheCommandsInTheDocumentsRun(t *testing.T) {
	t.Parallel()
	d := newDocsSite(t)
	for _, page := range docsPages(t) {
		t.Run(page, func(t *testing.T) { d.readPage(t, page) })
	}
}

// Each of these mistakes must be found, or the test above proves nothing.
func TestAMistakeInADocumentIsFound(t *testing.T) {
	for _, wrong := range []string{
		"preemptctl workflow lst",
		"preemptctl workflow list --nosuch",
		"preemptctl workfow list",
		"preemptctl plan",
		"workflow show ID",
		"watch status --wait",
		"schedule create|remove",
		"standalone --simulated",
		"standalone --once",
		"worker --nosuch",
		"kn-go-preemption serve",
		"go run ./cmd/nosuch",
		"go run ./cmd/standalone --simulated",
		"go test ./internal/nosuch",
		"go test ./internal/policy -run TestNoSuchTest",
		"go test ./internal/policy -bench NoSuchBenchmark",
	} {
		if err := new(docsSite).parse(wrong); err == nil {
			t.Errorf("%s: no mistake is found", wrong)
		}
	}
}

func TestAWrongBlockOfADocumentIsFound(t *testing.T) {
	for _, wrong := range []string{
		"    preemptctl workflow list",       // indented, so that it would not be run
		"```\npreemptctl workflow list\n```", // not marked as sh
		"```text\n$ go run ./cmd/worker\n```",
	} {
		if _, err := docsScripts("page.md", wrong); err == nil {
			t.Errorf("%q: no mistake is found", wrong)
		}
	}
}
