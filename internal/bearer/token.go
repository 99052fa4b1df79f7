// Package bearer reads the token that callers of our HTTP servers show.
package bearer

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
)

// maxToken bounds the file of a token.
const maxToken = 16 << 10

// Token is the bearer token that callers must send. It is in a file, which is read again when it changes,
// so that it can be rotated without a restart.
type Token struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex
	seen os.FileInfo // the file that was read, or could not be
	sum  [sha256.Size]byte
}

// Read reads the token in the file at path, without white space around it. A file that cannot be read,
// or is empty, is an error; later, the last token that could be read stays valid. The log, which never gets the
// token, may be nil.
func Read(path string, log *slog.Logger) (*Token, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Token{path: path, log: log}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	t.seen = info
	t.sum, err = readSum(path)
	return t, err
}

func readSum(path string) (sum [sha256.Size]byte, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return sum, fmt.Errorf("read the token: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	switch {
	case text == "":
		return sum, fmt.Errorf("read the token: %s is empty: write the token that senders show into it", path)
	case len(raw) > maxToken:
		return sum, fmt.Errorf("read the token: %s has %d bytes: at most %d are taken", path, len(raw), maxToken)
	}
	return sha256.Sum256([]byte(text)), nil
}

// Shown reports whether a request's header has the token.
func (t *Token) Shown(h http.Header) bool {
	want := t.current()
	scheme, shown, _ := strings.Cut(h.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(shown)))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// current returns the sum of the token in the file.
func (t *Token) current() [sha256.Size]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.path)
	if err != nil {
		if t.seen != nil {
			t.log.Warn("the token's file cannot be read; the last token holds", "reason", err)
		}
		t.seen = nil
		return t.sum
	}
	if t.seen != nil && os.SameFile(t.seen, info) && t.seen.ModTime().Equal(info.ModTime()) && t.seen.Size() == info.Size() {
		return t.sum
	}
	t.seen = info
	sum, err := readSum(t.path)
	if err != nil {
		t.log.Warn("the token's file cannot be used; the last token holds", "reason", err)
		return t.sum
	}
	if sum != t.sum {
		t.sum = sum
		t.log.Info("the token has changed")
	}
	return t.sum
}
