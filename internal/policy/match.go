package policy

import (
	"path"
	"strings"
)

// Match returns the first glob that matches the name of a VM, as in neverTouch. A glob that cannot be read
// matches, which protects. Letter case does not matter.
func Match(globs []string, name string) (glob string, ok bool) { return matching(globs, name) }

// IsVCLS reports whether a VM of this name is one of vSphere's own.
func IsVCLS(name string) bool { return strings.HasPrefix(strings.ToLower(name), "vcls") }

// matching returns the first glob that matches the name, in which a slash is a letter like any other.
func matching(globs []string, name string) (string, bool) {
	slashed := strings.Contains(name, "/")
	if slashed {
		name = strings.ReplaceAll(name, "/", "\x00")
	}
	for _, glob := range globs {
		pattern := glob
		if slashed {
			pattern = strings.ReplaceAll(glob, "/", "\x00")
		}
		if protects(pattern, name) {
			return glob, true
		}
	}
	return "", false
}

// below returns the first glob that matches something on the inventory path: a glob that begins with a slash
// matches paths, another one names.
func below(globs []string, at string) (string, bool) {
	for at != "" && len(globs) > 0 {
		slash := strings.LastIndexByte(at, '/')
		for i, glob := range globs {
			what := at[slash+1:]
			if strings.HasPrefix(glob, "/") {
				what, glob = at, strings.TrimSuffix(glob, "/")
			}
			if protects(glob, what) {
				return globs[i], true
			}
		}
		at = at[:max(0, slash)]
	}
	return "", false
}

// protects matches as path.Match does, but ignores letter case, and a pattern that cannot be read matches. For
// vCenter, and for people, DB-01 and db-01 are the same name.
func protects(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	if ok || err != nil {
		return true
	}
	ok, err = path.Match(strings.ToLower(pattern), strings.ToLower(name))
	return ok || err != nil
}
