package policy

import (
	"fmt"
	"strings"
)

// BelowTarget says in words that a measured usage asks for nobody: how high it is, and which target it is below. It is empty where a
// resource is short, and where nothing was measured against a target.
func BelowTarget(all []Usage) string {
	var scopes []string
	for _, u := range all {
		if u.CPU.Shortfall > 0 || u.Memory.Shortfall > 0 {
			return ""
		}
		text := whyEnough(u)
		if text != "" && len(all) > 1 && u.Name != "" {
			text = u.Name + ": " + text
		}
		if text != "" {
			scopes = append(scopes, text)
		}
	}
	if len(scopes) == 0 {
		return ""
	}
	return strings.Join(scopes, "; ") + ": nobody must go"
}

// whyEnough compares the usage of a scope with its targets.
func whyEnough(u Usage) string {
	var used, targets []string
	word := "below"
	for _, one := range []struct {
		name string
		load Load
	}{{"CPU", u.CPU}, {"memory", u.Memory}} {
		l := one.load
		if l.Target == 0 || l.Capacity <= l.Kept {
			continue
		}
		percent := max(0, l.Used-l.Credited) * 100 / (l.Capacity - l.Kept)
		if percent >= int64(l.Target) {
			word = "not above"
		}
		used = append(used, fmt.Sprintf("%s usage is %d %%", one.name, percent))
		targets = append(targets, fmt.Sprintf("%d %%", l.Target))
	}
	switch len(used) {
	case 0:
		return ""
	case 1:
		return used[0] + ", " + word + " the target of " + targets[0]
	}
	return fmt.Sprintf("%s and %s, %s the targets of %s and %s", used[0], used[1], word, targets[0], targets[1])
}
