package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// shownPolicy is what policy show prints.
type shownPolicy struct {
	File   string        `json:"file,omitempty"` // empty: the built-in defaults
	Name   string        `json:"name"`
	Hash   string        `json:"hash"`
	Policy policy.Policy `json:"policy"`           // with all defaults filled in
	Others []string      `json:"others,omitempty"` // the other policies of the file
}

func (a *app) policyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [FILE] [NAME]", Args: arguments(0, 2, "at most a file and the name of a policy"),
		Short: "Show an effective policy and its hash",
		Long: "Show the policy NAME (default: default) of a configuration file with all its defaults, and its hash. The same\n" +
			"hash is in every plan and result. Without FILE the command reads the file of PREEMPTION_CONFIG, or shows the\n" +
			"built-in defaults.\n\n" +
			"Exit status: 0 done; 1 failed, also when the file is not valid; 2 wrong usage; 3 no such file or policy; 130 interrupted.",
		Example: "  preemptctl policy show\n  preemptctl policy show preemption.yaml careful -o yaml",
		RunE:    func(_ *cobra.Command, args []string) error { return a.policyShow(args) },
	}
}

func (a *app) policyShow(args []string) error {
	out := shownPolicy{Name: config.DefaultPolicy}
	if file, ok := a.Env.LookupEnv("PREEMPTION_CONFIG"); ok {
		out.File = strings.TrimSpace(file)
	}
	if len(args) > 0 {
		out.File = args[0]
	}
	if len(args) > 1 {
		out.Name = args[1]
	}
	f := config.DefaultFile()
	if out.File != "" {
		read, err := a.validConfig(out.File)
		if err != nil {
			return err
		}
		f = read
	}
	p, ok := f.Policies[out.Name]
	if !ok {
		return noPolicy(out.File, out.Name, f)
	}
	out.Hash, out.Policy = p.Hash(), p.Explicit()
	out.Others = slices.DeleteFunc(slices.Sorted(maps.Keys(f.Policies)), func(n string) bool { return n == out.Name })
	return a.show(view{
		value: out, msg: "policy", attrs: []any{"policy", out},
		table: func(t *table) { policyTable(t, out) },
	})
}

func policyTable(t *table, s shownPolicy) {
	t.row("policy", s.Name)
	t.row("hash", s.Hash)
	t.field("file", s.File)
	t.field("others", strings.Join(s.Others, ", "))
	t.section("KEY", "VALUE")
	var keys map[string]any
	if b, err := json.Marshal(s.Policy); err == nil && json.Unmarshal(b, &keys) == nil {
		settingRows(t, "", keys)
	}
}

// settingRows writes a row for every setting, named as in the file.
func settingRows(t *table, at string, keys map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		path := strings.TrimPrefix(at+"."+name, ".")
		switch v := keys[name].(type) {
		case map[string]any:
			settingRows(t, path, v)
		case []any:
			t.row(path, orDash(listWords(v)))
		case nil:
			t.row(path, "-")
		case float64:
			t.row(path, fmt.Sprintf("%.0f", v))
		default:
			t.row(path, fmt.Sprint(v))
		}
	}
}

// listWords writes a list of names, or of budgets.
func listWords(list []any) string {
	var words []string
	for _, entry := range list {
		keys, ok := entry.(map[string]any)
		if !ok {
			words = append(words, fmt.Sprint(entry))
			continue
		}
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			pairs = append(pairs, fmt.Sprintf("%s: %v", name, keys[name]))
		}
		words = append(words, "{"+strings.Join(pairs, ", ")+"}")
	}
	return strings.Join(words, ", ")
}
