package policy

// Match returns the first glob that matches the name of a VM, as in neverTouch. A glob that cannot be read
// matches: that protects.
func Match(globs []string, name string) (glob string, ok bool) { return matching(globs, name) }
