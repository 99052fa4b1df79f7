// Package shown makes text fit to be shown, logged or stored: without the secrets in URLs, and without
// characters that hide or turn around what stands there.
package shown

import (
	"bytes"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hiddenSecret stands for what is left out; it is Go's word, and valid in a URL.
const hiddenSecret = "xxxxx"

var (
	addresses  = regexp.MustCompile("(?i)[a-z][a-z0-9+.-]*://[^\\s\"<>`]+")
	secretName = regexp.MustCompile(`(?i)token|secret|pass|pwd|key|auth|cred|jwt|session|sign|^(sig|code|sas|pw)$`)
	port       = regexp.MustCompile(`^(\[[^\]]*\]|[^:]*)(:\d*)?[^\w]*$`)
	opaque     = regexp.MustCompile(`^[A-Za-z0-9_\-+/=.%~]{20,}$`)
)

// Redact hides the secrets of every URL in a text: user and password, and the values of query parameters that
// are named like secrets or look like them. Text without such URLs comes back as it is.
func Redact(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	return addresses.ReplaceAllStringFunc(s, redact)
}

func redact(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, tail := rest[:end], rest[end:]
	switch at := strings.LastIndexByte(host, '@'); {
	case at >= 0:
		host = hiddenSecret + host[at:]
	case !port.MatchString(host): // no host and port: a password with signs that should be escaped, or cut short
		at = strings.LastIndexByte(rest, '@')
		if at < 0 {
			return scheme + "://" + hiddenSecret
		}
		return redact(scheme + "://" + hiddenSecret + rest[at:])
	}
	path, query, found := strings.Cut(tail, "?")
	if found {
		query = "?" + redactPairs(query)
	}
	return scheme + "://" + host + path + query
}

// redactPairs hides the secret values of a query, whose other bytes stay.
func redactPairs(query string) string {
	var out strings.Builder
	for len(query) > 0 {
		pair, sign := query, ""
		if i := strings.IndexAny(query, "&;#"); i >= 0 {
			pair, sign = query[:i], query[i:i+1]
		}
		query = query[len(pair)+len(sign):]
		name, value, valued := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if secret := err != nil || secretName.MatchString(plain) || looksSecret(value); valued && value != "" && secret {
			pair = name + "=" + hiddenSecret
		} else if !valued && looksSecret(name) {
			pair = hiddenSecret
		}
		out.WriteString(pair + sign)
	}
	return out.String()
}

func looksSecret(s string) bool {
	return opaque.MatchString(s) && strings.ContainsAny(s, "0123456789") && strings.ContainsFunc(s, unicode.IsLetter)
}

// Error returns an error whose text is redacted; what it wraps is left behind, since that has the secrets too.
func Error(err error) error {
	if err == nil {
		return nil
	}
	return redacted(Redact(err.Error()))
}

type redacted string

// Error implements error.
func (r redacted) Error() string { return string(r) }

// Plain escapes what could move the cursor, colour, hide or turn around what a reader sees: control
// characters with those of C1, bidirectional and zero-width ones, and bytes that are no UTF-8.
func Plain(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !hidden(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// JSON escapes the same characters in a JSON document, where they can only be inside strings: it says the
// same afterwards, in print. White space between values stays.
func JSON(doc []byte) []byte {
	special := func(r rune) bool { return r >= utf8.RuneSelf && hidden(r) || r == 0x7f }
	if !bytes.ContainsFunc(doc, special) {
		return doc
	}
	var b bytes.Buffer
	for _, r := range string(doc) {
		switch {
		case !special(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// Literal makes text of the escapes that JSON has written into a document, so that what decodes it, as YAML does, shows
// them and not what they stand for.
func Literal(doc []byte) []byte {
	var b bytes.Buffer
	for len(doc) > 0 {
		n := 1
		if doc[0] == '\\' && len(doc) > 1 {
			n = 2 // an escape: what is behind its backslash begins none
			if hiddenEscape(doc) {
				b.WriteByte('\\')
			}
		}
		b.Write(doc[:n])
		doc = doc[n:]
	}
	return b.Bytes()
}

// hiddenEscape reports whether a document begins with an escape that JSON has written.
func hiddenEscape(doc []byte) bool {
	if len(doc) < 6 || doc[1] != 'u' {
		return false
	}
	code, err := strconv.ParseUint(string(doc[2:6]), 16, 16)
	return err == nil && code >= 0x7f && hidden(rune(code))
}
