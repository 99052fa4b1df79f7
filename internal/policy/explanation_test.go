package policy

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestAnExplanationIsOneStringOnTheWire(t *testing.T) {
	for text, c := range map[string]struct {
		want  Explanation
		words string
	}{
		"":                             {Explanation{}, ""},
		"gone":                         {Because(Gone), "the VM no longer exists"},
		"no_running_tools":             {Because(NoTools), "no VMware Tools run in it, so its guest cannot be shut down"},
		"group_budget: web: 2 of 3":    {Explanation{GroupBudget, "web: 2 of 3"}, "its group must keep enough VMs up (web: 2 of 3)"},
		"gone: ":                       {Explanation{Detail: "gone: "}, "gone: "},
		"goner: than gone":             {Explanation{Detail: "goner: than gone"}, "goner: than gone"},
		": nothing":                    {Explanation{Detail: ": nothing"}, ": nothing"},
		"vCenter stayed away":          {Explanation{Detail: "vCenter stayed away"}, "vCenter stayed away"},
		"power off vm-1: NoPermission": {Explanation{Detail: "power off vm-1: NoPermission"}, "power off vm-1: NoPermission"},
	} {
		got := InWords(text)
		if got != c.want || got.Words() != c.words || got.String() != text {
			t.Errorf("%q is read as %+v, %q, and written as %q", text, got, got.Words(), got)
		}
	}
}

// explained has a reason as results have it, as the type and as the string that it was.
type (
	explained struct {
		Reason Explanation `json:"reason,omitzero"`
	}
	plain struct {
		Reason string `json:"reason,omitempty"`
	}
)

func FuzzExplanationsKeepTheirJSON(f *testing.F) {
	for _, text := range []string{"", "gone", "gone: ", "limit: 3", "a: b", ": ", "withdrawn", "é\xff<&>\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		was, err := json.Marshal(plain{text})
		if err != nil {
			t.Fatal(err)
		}
		is, err := json.Marshal(explained{InWords(text)})
		if err != nil || string(is) != string(was) {
			t.Errorf("%s became %s, %v", was, is, err)
		}
		var before plain
		var after explained
		if err := errors.Join(json.Unmarshal(was, &before), json.Unmarshal(was, &after)); err != nil || after.Reason.String() != before.Reason {
			t.Errorf("%s is read as %+v, %v", was, after, err)
		}
		if e := InWords(text); e.String() != text || InWords(e.String()) != e {
			t.Errorf("%q is read as %+v", text, e)
		}
	})
}

func TestEachReasonHasWords(t *testing.T) {
	for _, r := range Reasons() {
		if words := r.Explain(); !r.Known() || words == "" || words == string(r) {
			t.Errorf("the words of %s are %q", r, words)
		}
	}
	if r := Reason("of_a_later_version"); r.Known() || r.Explain() != "of_a_later_version" {
		t.Errorf("the words of an unknown reason are %q", r.Explain())
	}
}
