package vcenter

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
)

func TestAConnectionThatWasClosedIsNotCalledEOF(t *testing.T) {
	for name, err := range map[string]error{
		"before an answer": &url.Error{Op: "Post", URL: "https://vcenter/sdk", Err: io.EOF},
		"within an answer": fmt.Errorf("decode: %w", io.ErrUnexpectedEOF),
	} {
		if text := (&Error{Op: "find VM", Object: `"web-1"`, Err: err}).Error(); !strings.HasPrefix(text, `find VM "web-1": the connection was closed`) || strings.Contains(text, "EOF") {
			t.Errorf("%s: %s", name, text)
		}
	}
}
