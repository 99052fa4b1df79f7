// Package workflowid makes the ids of workflows. An id travels in gRPC headers, which take printable ASCII alone, and
// SQL stores keep 255 characters of it. Every id that holds a name which people chose is made here, and every id that
// a person names is read here, so that both find the same workflow. It imports no other package of this project.
package workflowid

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Max is the length, in bytes, that no id of ours reaches.
const Max = 200

// The prefixes of ids that belong to workflows of our own.
const (
	Ledger      = "preemption-ledger@"
	Watch       = "vcenter-watch@"
	Restore     = "restore@"
	Resize      = "resize@"
	Reconfigure = "reconfigure@"
	Move        = "move@"
	Reconcile   = "reconcile@"
	Handover    = "handover@"
	Probe       = "preemption-probe@"
	Repair      = "preemption-repair"
	MakeRoom    = "make-room@"
	Plan        = "preemption-plan-"
	Evict       = "evict@" // an intake of ours: only the names of alarms keep away from it
	Round       = "round-" // followed by twelve hexadecimal digits and a hyphen
)

// owners says whose the prefixes are.
var owners = []struct{ prefix, what string }{
	{Ledger, "the ledger"},
	{Watch, "the watch"},
	{Restore, "restores"},
	{Resize, "resizes"},
	{Reconfigure, "reconfigurations"},
	{Move, "moves"},
	{Reconcile, "reconciliations"},
	{Handover, "what an intake leaves to its successor"},
	{Plan, "plans"},
	{Probe, "the probe"},
	{Repair, "repairs"},
	{MakeRoom, "rooms"},
}

// roundHash is the number of hexadecimal digits in the id of a round.
const roundHash = 12

// Reserved reports whether an id belongs to workflows of our own that are no intakes, and to which.
func Reserved(id string) (what string, ok bool) {
	for _, o := range owners {
		if strings.HasPrefix(id, o.prefix) {
			return o.what, true
		}
	}
	rest, ok := strings.CutPrefix(id, Round)
	if !ok || len(rest) <= roundHash || rest[roundHash] != '-' {
		return "", false
	}
	_, err := hex.DecodeString(rest[:roundHash])
	return "rounds", err == nil
}

// Of makes an id of any text. A valid id stays as it is; whatever is not printable ASCII is written as %XX, byte by
// byte of its UTF-8, and what would be too long is cut and ends with a part of its hash, before its scope.
func Of(text string) string {
	if valid(text) {
		return text
	}
	return shorten(escape(text))
}

// Intake returns the id of the intake that an alarm has in a scope: <alarm>@<MoRef>, or <alarm>@all. An alarm that
// is called as our own workflows are has its first letter written as %XX.
func Intake(alarm, scope string) string {
	if scope == "" {
		scope = "all"
	}
	id := alarm + "@" + scope
	if !valid(id) || literal.MatchString(id) {
		id = escape(id)
	}
	if ours(id) {
		id = encode(id[0]) + id[1:]
	} else if rest := id; strings.HasPrefix(rest, "%") && ours(decodeFirst(rest)) {
		id = encode('%') + id[1:] // an alarm that is literally called %72estore
	}
	return shorten(id)
}

// defaultQueue is the default of the workers' task queue. It is no part of an id.
const defaultQueue = "vsphere-preemption"

// Room returns the id of the workflow that makes room in a scope: a cluster's MoRef such as domain-c7, or "" for
// everything. Task queues other than the default are part of it, for MoRefs repeat between vCenters.
func Room(scope, queue string) string {
	if scope == "" {
		scope = "all"
	}
	if queue != "" && queue != defaultQueue {
		scope += "@" + queue
	}
	return Of(MakeRoom + scope)
}

func ours(id string) bool {
	_, reserved := Reserved(id)
	return reserved || strings.HasPrefix(id, Evict)
}

// decodeFirst undoes the escape that an id begins with, however often its per cent sign was escaped.
func decodeFirst(id string) string {
	rest := id[1:]
	for strings.HasPrefix(rest, "25") {
		rest = rest[2:]
	}
	if len(rest) < 2 {
		return id
	}
	b, err := hex.DecodeString(rest[:2])
	if err != nil || strings.ToUpper(rest[:2]) != rest[:2] {
		return id
	}
	return string(b) + rest[2:]
}

func printable(b byte) bool { return b >= ' ' && b <= '~' }

func valid(id string) bool {
	for i := range len(id) {
		if !printable(id[i]) {
			return false
		}
	}
	return len(id) < Max
}

func encode(b byte) string { return "%" + strings.ToUpper(hex.EncodeToString([]byte{b})) }

// escape writes what is not printable as %XX. A per cent sign of the text that would be read as such an escape is
// itself written as %25, so that different texts stay different; all others stay.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !printable(text[i]), text[i] == '%' && looksEscaped(text[i:]):
			b.WriteString(encode(text[i]))
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// literal matches what escape writes for a byte that is not printable, however often its per cent sign was escaped.
var literal = regexp.MustCompile(`%(?:25)*(?:[01][0-9A-F]|7F|[89A-F][0-9A-F])`)

// looksEscaped reports whether a text begins with what escape writes, or writes for that.
func looksEscaped(text string) bool {
	at := literal.FindStringIndex(text)
	return at != nil && at[0] == 0
}

// maxTail is how much of an id, from its last @ on, is kept when it is cut.
const maxTail = 64

// shorten cuts an id that is too long, and puts a part of its hash where it was cut.
func shorten(id string) string {
	if len(id) < Max {
		return id
	}
	tail := ""
	if at := strings.LastIndexByte(id, '@'); at >= 0 && len(id)-at <= maxTail {
		tail = id[at:]
	}
	sum := sha256.Sum256([]byte(id))
	hash := "~" + hex.EncodeToString(sum[:8])
	head := id[:Max-1-len(hash)-len(tail)]
	if cut := strings.LastIndexByte(head, '%'); cut > len(head)-3 {
		head = head[:cut]
	}
	return head + hash + tail
}
