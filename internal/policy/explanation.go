package policy

import "strings"

// Explanation says why a VM has its outcome: a reason of the closed set, details in words, or both. On the wire it is one
// string, "reason: detail".
type Explanation struct {
	Reason Reason // empty: the detail says all
	Detail string
}

// between stands between the reason and the detail.
const between = ": "

// Because explains an outcome by a reason alone.
func Because(r Reason) Explanation { return Explanation{Reason: r} }

// InWords reads an explanation. Text that does not begin with a known reason is all detail.
func InWords(text string) Explanation {
	if r := Reason(text); r.Known() {
		return Because(r)
	}
	if name, detail, found := strings.Cut(text, between); found && detail != "" && Reason(name).Known() {
		return Explanation{Reason: Reason(name), Detail: detail}
	}
	return Explanation{Detail: text}
}

// String returns the explanation as it is on the wire.
func (e Explanation) String() string {
	if e.Reason == "" || e.Detail == "" {
		return string(e.Reason) + e.Detail
	}
	return string(e.Reason) + between + e.Detail
}

// Words returns the explanation as people read it.
func (e Explanation) Words() string {
	switch {
	case e.Reason == "":
		return e.Detail
	case e.Detail == "":
		return e.Reason.Explain()
	}
	return e.Reason.Explain() + " (" + e.Detail + ")"
}

// MarshalText implements encoding.TextMarshaler.
func (e Explanation) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Explanation) UnmarshalText(text []byte) error {
	*e = InWords(string(text))
	return nil
}
