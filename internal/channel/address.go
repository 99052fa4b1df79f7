package channel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// maxAddress bounds the text of an address.
const maxAddress = 8 << 10

// read returns the address of a channel. A file is read each time, so that a secret can be replaced under way. Its errors
// name the variable or the file, and nothing of what is in it.
func (b *Book) read(from tell.Source) (string, error) {
	if from.Env != "" {
		v := strings.TrimSpace(b.env(from.Env))
		if v == "" {
			return "", fmt.Errorf("the variable %s is not set: set it to the channel's address", from.Env)
		}
		return v, nil
	}
	f, err := os.Open(from.File)
	if err != nil {
		return "", fmt.Errorf("its address cannot be read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAddress+1))
	if err != nil {
		return "", fmt.Errorf("its address cannot be read: %w", err)
	}
	v := strings.TrimSpace(string(text))
	switch {
	case v == "":
		return "", fmt.Errorf("the file %s is empty: write the channel's address into it", from.File)
	case len(text) > maxAddress || strings.ContainsAny(v, "\r\n"):
		return "", fmt.Errorf("the file %s holds more than one address", from.File)
	}
	return v, nil
}

// words are the parts of an address of which each may be a secret.
var words = regexp.MustCompile(`[\p{L}\p{N}]{4,}`)

// scrubbed is what an error says, without anything that is in the address: whatever the library put together from it, in
// whatever order.
func scrubbed(err error, address string) error {
	text := err.Error()
	for _, word := range words.FindAllString(address, -1) {
		text = regexp.MustCompile(`(?i)`+regexp.QuoteMeta(word)).ReplaceAllString(text, "xxxxx")
	}
	return errors.New(shown.Plain(shown.Clip(shown.Redact(text), 300)))
}
