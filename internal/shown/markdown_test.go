package shown

import "testing"

func TestANameIsNoMarkdown(t *testing.T) {
	if got := Markdown("web-1|<b>\n[x](y) `z` *é*"); got != "web-1  b   x (y)  z   é " {
		t.Errorf("got %q", got)
	}
}
