package console

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// Rules are the rules and policies that a worker runs with.
type Rules struct {
	File     string   `json:"file,omitempty"`     // "": the built-in defaults
	Observes bool     `json:"observes,omitempty"` // the file's mode is observe: no VM is touched, whatever rules and policies say
	Rules    []Rule   `json:"rules"`
	Policies []Policy `json:"policies"`
	Warnings []string `json:"warnings"` // what contradicts, or probably is not intended
}

// Rule is one rule, in words.
type Rule struct {
	Name string `json:"name"`
	When string `json:"when"` // the alarm, or the event
	Does string `json:"does"`
}

// Policy is one effective policy.
type Policy struct {
	Name     string    `json:"name"`
	Hash     string    `json:"hash"`
	Settings []Setting `json:"settings"`        // all of them, with the defaults filled in
	By       string    `json:"by,omitempty"`    // the round that used it last; "": the worker's own file
	At       time.Time `json:"at,omitzero"`     // when that began
	Error    string    `json:"error,omitempty"` // why its settings cannot be read
}

// Setting is one setting, named as in the file.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// PolicyOf writes a policy as its settings.
func PolicyOf(name string, p policy.Policy) Policy {
	out := Policy{Name: name, Hash: p.Hash(), Settings: []Setting{}}
	var keys map[string]any
	b, err := json.Marshal(p.Explicit())
	if err == nil {
		err = json.Unmarshal(b, &keys)
	}
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.Settings = settings(out.Settings, "", keys)
	return out
}

// settings appends a setting for every key.
func settings(list []Setting, at string, keys map[string]any) []Setting {
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		path := strings.TrimPrefix(at+"."+name, ".")
		if nested, ok := keys[name].(map[string]any); ok {
			list = settings(list, path, nested)
			continue
		}
		list = append(list, Setting{Key: path, Value: valueWords(keys[name])})
	}
	return list
}

func valueWords(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case float64:
		return fmt.Sprintf("%g", v)
	case []any:
		words := make([]string, 0, len(v))
		for _, one := range v {
			words = append(words, valueWords(one))
		}
		if len(words) == 0 {
			return "none"
		}
		return strings.Join(words, ", ")
	case map[string]any:
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			pairs = append(pairs, name+": "+valueWords(v[name]))
		}
		return "{" + strings.Join(pairs, ", ") + "}"
	}
	if text := fmt.Sprint(v); text != "" {
		return text
	}
	return "none"
}
