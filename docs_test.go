package preemption_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A link of Markdown, without images, and the fenced or indented code that shows none.
var (
	docsLink   = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	docsFenced = regexp.MustCompile("(?ms)^```.*?^```[^\n]*$")
	docsCode   = regexp.MustCompile("`[^`\n]*`")
	docsNoSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// docsPages are our own pages that link each other.
func docsPages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) < 2 {
		t.Fatalf("%d pages in docs (%v)", len(pages), err)
	}
	return append(pages, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/knative/README.md")
}

func docsText(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return docsFenced.ReplaceAllString(string(raw), "")
}

// docsLinks returns the links of a page that lead to files of the repository.
func docsLinks(t *testing.T, page string) (links []string) {
	t.Helper()
	for _, m := range docsLink.FindAllStringSubmatch(docsCode.ReplaceAllString(docsText(t, page), ""), -1) {
		if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") {
			links = append(links, m[1])
		}
	}
	return links
}

// docsAnchors returns the anchors of a page's headings, as GitHub makes them.
func docsAnchors(t *testing.T, page string) (anchors []string) {
	t.Helper()
	for line := range strings.Lines(docsText(t, page)) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		title = docsLink.ReplaceAllString(title, "]")
		slug := docsNoSlug.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
		anchors = append(anchors, strings.ReplaceAll(slug, " ", "-"))
	}
	return anchors
}

func TestTheIndexOfTheDocsLinksEveryPage(t *testing.T) {
	const index = "docs/README.md"
	links := docsLinks(t, index)
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); page != index && !slices.Contains(links, name) {
			t.Errorf("%s does not link %s: add it under the task that it is for", index, name)
		}
	}
}

func TestTheLinksBetweenTheDocsResolve(t *testing.T) {
	for _, page := range docsPages(t) {
		for _, link := range docsLinks(t, page) {
			file, anchor, _ := strings.Cut(link, "#")
			path := page
			if file != "" {
				path = filepath.Join(filepath.Dir(page), file)
			}
			info, err := os.Stat(path)
			switch {
			case err != nil:
				t.Errorf("%s links %s, which does not exist", page, link)
			case anchor != "" && !info.IsDir() && filepath.Ext(path) == ".md" && !slices.Contains(docsAnchors(t, path), anchor):
				t.Errorf("%s links %s, and %s has no such heading", page, link, path)
			}
		}
	}
}
