package cli

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

// checked is what policy check prints.
type checked struct {
	File     string        `json:"file"`
	Valid    bool          `json:"valid"`
	Problems []string      `json:"problems"`           // each with line and key
	Warnings []string      `json:"warnings,omitempty"` // valid, but probably not intended
	Policies []namedPolicy `json:"policies"`           // of a valid file
}

// namedPolicy is a policy and its fingerprint.
type namedPolicy struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

func (a *app) policyCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Args: arguments(1, 1, "one file"),
		Short: "Check a configuration file",
		Long: "Check a configuration file: each unknown key and impossible value is shown with its line, its key and the\n" +
			"allowed values. A limit that would reject what a rule asks for is an error too. There is a warning about a rule that is\n" +
			"never reached, and about a policy with a name such as Default.\n\nExit status: 0 done; 1 failed, also when the file is not valid; 2 wrong usage; 3 no such file; 130 interrupted.",
		Example: "  preemptctl policy check preemption.yaml\n  preemptctl policy check preemption.yaml -o json",
		RunE:    func(_ *cobra.Command, args []string) error { return a.policyCheck(args[0]) },
	}
}

func (a *app) policyCheck(name string) error {
	f, problems, err := readConfig(name)
	if err != nil {
		return err
	}
	out := checked{File: name, Valid: len(problems) == 0, Problems: append([]string{}, problems...), Policies: []namedPolicy{}}
	out.Warnings = f.Warnings
	if out.Valid {
		for _, n := range slices.Sorted(maps.Keys(f.Policies)) {
			out.Policies = append(out.Policies, namedPolicy{n, f.Policies[n].Hash()})
		}
	}
	err = a.show(view{
		value: out, msg: "checked", attrs: []any{"check", out},
		table: func(t *table) { checkTable(t, out) },
	})
	if err == nil && !out.Valid {
		return invalid(name, problems)
	}
	return err
}

func checkTable(t *table, c checked) {
	for _, w := range c.Warnings {
		t.row("warning: " + w)
	}
	if !c.Valid {
		for _, p := range c.Problems {
			t.row(p)
		}
		return
	}
	t.row("file", c.File)
	t.row("valid", "yes")
	t.section("POLICY", "HASH")
	for _, p := range c.Policies {
		t.row(p.Name, p.Hash)
	}
}
