package standalone

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const docsRoot = "../.."

// docsPages are the documents, by their path in the repository.
func docsPages(t *testing.T) (pages []string) {
	t.Helper()
	for _, pattern := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "deploy/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(docsRoot, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no page matches %s (%v)", pattern, err)
		}
		for _, path := range found {
			pages = append(pages, filepath.ToSlash(strings.TrimPrefix(path, docsRoot+string(filepath.Separator))))
		}
	}
	return pages
}

// docsScript is a block of commands.
type docsScript struct {
	text string
	line int // of the page
}

var (
	docsFence   = regexp.MustCompile("^( *)```(.*)$")
	docsCommand = regexp.MustCompile(`^\s*(\$ )?(` + strings.Join(docsOurs, "|") + `|go (run|test|install)) [-./a-z]`)
)

// docsScripts returns the blocks of commands of a page. It refuses a command that stands elsewhere, as it would not run.
func docsScripts(page, text string) (scripts []docsScript, err error) {
	lang, indent, examples, comment := "", "", false, ""
	var block []string
	for i, line := range strings.Split(text, "\n") {
		fence := docsFence.FindStringSubmatch(line)
		switch {
		case fence != nil && lang == "":
			lang, indent, block = fence[2]+" ", fence[1], nil
		case fence != nil:
			if strings.TrimSpace(lang) == "sh" {
				scripts = append(scripts, docsScript{strings.Join(block, "\n"), i + 1 - len(block)})
			}
			lang = ""
		case lang == "sh ":
			block = append(block, strings.TrimPrefix(line, indent))
		case lang == "crontab ": // five fields, then the command
			if fields := strings.Fields(line); len(fields) > 5 {
				scripts = append(scripts, docsScript{strings.Join(fields[5:], " "), i + 1})
			}
		case strings.HasPrefix(text, docsGenerated): // a page of help texts: their examples are commands, each by itself
			examples = line == "Examples:" || examples && line != ""
			switch example := strings.TrimSpace(line); {
			case !examples || line == "Examples:":
			case strings.HasPrefix(example, "#"):
				comment = " " + example
			default:
				scripts, comment = append(scripts, docsScript{example + comment, i + 1}), ""
			}
		case (lang != "" || strings.HasPrefix(line, "    ")) && docsCommand.MatchString(line):
			err = errors.Join(err, fmt.Errorf("%s:%d: a command outside of a block marked ```sh is not tested", page, i+1))
		}
	}
	return scripts, err
}

const docsGenerated = "# preemptctl\n"

// docsSpans returns the command lines within the text of a page: code that begins with one of our programs, or with a group
// of preemptctl's commands and a command of it. a|b stands for two commands.
func docsSpans(text string) (spans []string) {
	text = docsBlock.ReplaceAllString(text, "")
	for _, m := range docsSpan.FindAllStringSubmatch(text, -1) {
		words := strings.Fields(m[1])
		if len(words) < 2 || !docsStart.MatchString(strings.Join(words, " ")) {
			continue
		}
		spans = append(spans, strings.Join(words, " "))
	}
	return spans
}

var (
	docsBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```[^\n]*$")
	docsSpan  = regexp.MustCompile("`([^`]+)`")
	docsStart = regexp.MustCompile(`^((` + strings.Join(docsOurs, "|") + `|go run|go test) |(` + strings.Join(docsGroups, "|") + `) [a-z|]+( |$))`)
)

// docsGroups are the groups of preemptctl's commands, which the text names without the program.
var docsGroups = []string{"workflow", "remediation", "tags", "schedule", "watch", "policy", "completion", "demo"}
