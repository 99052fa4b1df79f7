package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const (
	schemaFile    = "../../docs/config.schema.json"
	referenceFile = "../../docs/configuration.md"
)

// schema is what these tests read of the JSON schema.
type schema struct {
	Description string             `json:"description"`
	Properties  map[string]*schema `json:"properties"`
	Additional  json.RawMessage    `json:"additionalProperties"`
	Items       *schema            `json:"items"`
	Enum        []string           `json:"enum"`
	Minimum     *int               `json:"minimum"`
	Maximum     *int               `json:"maximum"`
	Default     any                `json:"default"`
	Examples    []any              `json:"examples"`
	Unit        string             `json:"x-unit"`
	Range       string             `json:"x-range"`
	MaxItems    int                `json:"maxItems"`
	Defs        map[string]*schema `json:"$defs"`
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	b, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	s.Properties["policies"].Properties = map[string]*schema{"NAME": s.Defs["policy"]}
	return &s
}

// leaves calls f for every key that holds a value, in the order of their paths; lists of objects are leaves
// too, and [] stands for an entry of one.
func (s *schema) leaves(at string, f func(path string, leaf *schema)) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p, path := s.Properties[name], join(at, name)
		if p.Properties == nil {
			f(path, p)
		}
		p.leaves(path, f)
		if p.Items != nil {
			p.Items.leaves(path+"[]", f)
		}
	}
}

// document is a file in which one key has a value.
func document(path string, value any) string {
	keys := strings.Split(strings.Replace(path, "NAME", "default", 1), ".")
	for _, key := range slices.Backward(keys) {
		if name, ok := strings.CutSuffix(key, "[]"); ok {
			value, key = []any{value}, name
		}
		value = map[string]any{key: value}
	}
	b, _ := json.Marshal(value)
	return string(b)
}

// known asks the decoder which keys it takes at a path; none where a value belongs there.
func known(path string) (keys []string) {
	const probe = "no such key"
	text := `{"` + probe + `": 1}`
	if path != "" {
		text = document(path, map[string]any{probe: 1})
	}
	_, err := ParseFile("p.yaml", []byte(text))
	for _, p := range Problems(err) {
		if _, list, ok := strings.Cut(p.Error(), probe+`": unknown key; allowed are `); ok {
			keys = strings.Split(list, ", ")
		}
	}
	return keys
}

func decoded(at string) (paths []string) {
	for _, key := range known(at) {
		path := join(at, key)
		if path == "policies" {
			path = "policies.NAME"
		}
		below := decoded(path)
		if len(below) == 0 {
			paths = append(paths, path)
			below = decoded(path + "[]")
		}
		paths = append(paths, below...)
	}
	return paths
}

func TestTheSchemaHasTheKeysOfTheDecoder(t *testing.T) {
	var described []string
	readSchema(t).leaves("", func(path string, _ *schema) { described = append(described, path) })
	read := decoded("")
	if len(read) < 50 {
		t.Fatalf("only %d keys were found", len(read))
	}
	for _, path := range read {
		if !slices.Contains(described, path) {
			t.Errorf("%s does not describe %s", schemaFile, path)
		}
	}
	for _, path := range described {
		if !slices.Contains(read, path) {
			t.Errorf("%s describes %s, which nothing reads", schemaFile, path)
		}
	}
}

func TestTheSchemaSaysWhatTheDecoderTakes(t *testing.T) {
	readSchema(t).leaves("", func(path string, leaf *schema) {
		if leaf.Description == "" || leaf.Unit == "" && leaf.Items == nil || len(leaf.Examples) != 1 {
			t.Errorf("%s lacks its description, unit or example", path)
			return
		}
		if strings.Contains(path, "[]") { // its keys need each other; the example of the list has them all
			return
		}
		takes := []any{leaf.Examples[0]}
		if leaf.Default != nil {
			takes = append(takes, leaf.Default)
		}
		refuses := []any{map[string]any{"a": 1}}
		for _, word := range leaf.Enum {
			takes = append(takes, word)
		}
		if len(leaf.Enum) > 0 {
			refuses = append(refuses, "nonsense")
		}
		if leaf.Minimum != nil {
			takes, refuses = append(takes, *leaf.Minimum, *leaf.Maximum), append(refuses, *leaf.Minimum-1, *leaf.Maximum+1)
		}
		if low, high, ok := strings.Cut(leaf.Range, " to "); ok && leaf.Unit == "duration" {
			takes, refuses = append(takes, low, high), append(refuses, "-1ns", high+"1ns")
		}
		if strings.HasSuffix(path, "target.cpu") || strings.HasSuffix(path, "target.memory") { // less leaves nothing of it below the margin
			takes = slices.DeleteFunc(takes, func(v any) bool { return v == 1 })
		}
		for _, v := range takes {
			if err := accepted(path, v); err != nil {
				t.Errorf("%s does not take %v: %v", path, v, err)
			}
		}
		for _, v := range refuses {
			if accepted(path, v) == nil {
				t.Errorf("%s takes %v", path, v)
			}
		}
	})
}

func TestTheSchemasDefaultsAreTheDecoders(t *testing.T) {
	var fill func(s *schema) map[string]any
	fill = func(s *schema) map[string]any {
		m := map[string]any{}
		for name, p := range s.Properties {
			switch {
			case name == "target", name == "neverTouch": // absent; an empty neverTouch has another hash than none
			case p.Properties != nil:
				m[strings.Replace(name, "NAME", "default", 1)] = fill(p)
			case p.Default != nil:
				m[name] = p.Default
			}
		}
		return m
	}
	text, err := json.Marshal(fill(readSchema(t)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFile("p.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	f.Limits.AllowedTags, f.Limits.WithoutCategories, f.Limits.ReplyAllow, f.Limits.NeverTouch, f.Limits.TrustedUsers = nil, nil, nil, nil, nil
	if want := DefaultFile(); !reflect.DeepEqual(f.Limits, want.Limits) || f.Policies["default"].Hash() != want.Policies["default"].Hash() {
		t.Errorf("the schema's defaults make\n%+v, not\n%+v", f, want)
	}
	goal := readSchema(t).Defs["policy"].Properties["target"].Properties
	if d := policy.DefaultGoal(); fmt.Sprint(goal["margin"].Default) != fmt.Sprint(d.Margin) || goal["ifShort"].Default != d.IfShort {
		t.Errorf("the schema's target has margin %v and ifShort %v, not %+v", goal["margin"].Default, goal["ifShort"].Default, d)
	}
}

// The reference is made of the schema, so that it cannot say anything else. Write it anew with
// go test ./internal/config -run TestTheReference -update.
func TestTheReferenceHasEveryKey(t *testing.T) {
	s := readSchema(t)
	want := reference(s)
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the schema says: go test ./internal/config -run TestTheReference -update", referenceFile)
	}
	for _, path := range decoded("") {
		if !strings.Contains(string(got), "| `"+path+"` |") {
			t.Errorf("%s lacks %s", referenceFile, path)
		}
	}
}

func reference(s *schema) string {
	var b strings.Builder
	b.WriteString("# The configuration file\n\n<!-- Generated from config.schema.json: go test ./internal/config -run TestTheReference -update -->\n\n" + about)
	for _, section := range []string{"mode", "vcenter", "limits", "makeRoom", "notifications", "policies", "rules"} {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | meaning | unit | default | range | example |\n| --- | --- | --- | --- | --- | --- |\n",
			section, s.Properties[section].Description)
		list := s.Properties[section]
		if list.Items != nil || list.Properties == nil {
			list = &schema{Properties: map[string]*schema{section: list}}
			section = ""
		}
		list.leaves(section, func(path string, leaf *schema) {
			def := "none"
			if leaf.Default != nil {
				def = code(leaf.Default)
			}
			unit := leaf.Unit
			if unit == "" {
				unit = "list of budgets"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", path, leaf.Description, unit, def, span(leaf), code(leaf.Examples[0]))
		})
	}
	b.WriteString(tags)
	return b.String()
}

// span says which values are possible.
func span(leaf *schema) string {
	switch {
	case len(leaf.Enum) > 0:
		return "`" + strings.Join(leaf.Enum, "`, `") + "`"
	case leaf.Minimum != nil:
		return fmt.Sprintf("%d to %d", *leaf.Minimum, *leaf.Maximum)
	case leaf.Range != "":
		return leaf.Range
	case leaf.Items != nil:
		return fmt.Sprintf("up to %d entries", leaf.MaxItems)
	}
	return "`true`, `false`"
}

// code writes a value as YAML's flow style has it.
func code(v any) string { return "`" + flow(v) + "`" }

func flow(v any) string {
	var parts []string
	switch v := v.(type) {
	case []any:
		for _, entry := range v {
			parts = append(parts, flow(entry))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, key+": "+flow(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case string:
		if strings.ContainsAny(v, "*:,[]{}") {
			return `"` + v + `"`
		}
	case float64:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprint(v)
}

const about = `Use this page to write the YAML file that configures worker, receiver and standalone. ` + "`PREEMPTION_CONFIG`" + ` or ` + "`--config`" + ` names the
file. Without a file the defaults below apply. If a key is unknown or a value is impossible, the programs do not start, and say the line,
the key and the allowed values. Durations have a unit: ` + "`90s`, `5m`, `1h30m`" + `. Globs use ` + "`*`, `?` and `[a-z]`" + `.

` + "```sh" + `
preemptctl policy check FILE          # is it valid?
preemptctl policy show FILE [NAME]    # the effective policy, and its hash, which is in every plan and result
` + "```" + `

If your editor supports JSON schemas, it checks and completes the file with this line at its top:

    # yaml-language-server: $schema=https://raw.githubusercontent.com/vsphere-preemption/vsphere-preemption/main/docs/config.schema.json
`

const tags = `
## Tags on VMs

The owners of VMs control preemption with vSphere tags of these categories. The file cannot override them.

| category | tag | meaning |
| --- | --- | --- |
| ` + "`preemption-priority`" + ` | a whole number such as ` + "`10`" + ` | lower priorities are preempted first; without a tag ` + "`order.defaultPriority`" + ` applies |
| ` + "`preemption-group`" + ` | any name | the VM's application group, for budgets; several are possible, and the budget of each applies |
| ` + "`preemption-protect`" + ` | ` + "`do-not-preempt`" + ` | the VM is not preempted |
| ` + "`preemption-notify`" + ` | the name of a channel with ` + "`owners: true`" + `, or ` + "`mailto:`" + ` and an address | its owner is told there: see [notifications.md](notifications.md); a tag that names nothing is logged, and protects nobody |
| ` + "`preemption-protect`" + ` | a duration such as ` + "`4h`" + ` | the VM is not preempted for that long after its power-on |

A tag of these categories that cannot be read protects its VM, and is reported as ` + "`" + `unreadable_tag` + "`" + `. Letter case does not
matter in the names of the categories, in ` + "`" + `do-not-preempt` + "`" + `, and in ` + "`" + `neverTouch` + "`" + ` and ` + "`" + `protect` + "`" + `.
After a vMotion, vCenter no longer knows when a VM was powered on. The VM then counts as on since the vMotion, for
` + "`" + `preemption-protect` + "`" + ` and ` + "`" + `protect.minRuntime` + "`" + `.

vCenter silently leaves out tags and categories for which the worker's user has no permission, so a VM that its owner
protects would look like any other. Therefore the three categories must exist and be visible. While one is not, every plan and round is
refused (` + "`" + `CategoriesUnseen` + "`" + `), the worker says so at its start, and ` + "`" + `preemptctl doctor` + "`" + ` fails. To correct this:

- give the role on tags as a *global* permission, because tags are outside the inventory: [security.md](security.md#roles-in-vcenter);
- or create the category, even without tags: ` + "`" + `govc tags.category.create -t VirtualMachine -m preemption-group` + "`" + `;
- or, if your site does not want the category, name it in the file: ` + "`" + `limits: {withoutCategories: [preemption-group]}` + "`" + `. Its tags still count
  if it exists.

Single tags that are hidden *within* a visible category cannot be detected: give the permission on all tags of the category.

Tags for remediation:

| category | tag | meaning |
| --- | --- | --- |
| ` + "`" + placement.CategoryMode + "`" + ` | a mode of ` + "`resize`" + ` | what is done for this VM instead of the rule's mode |
| ` + "`" + placement.CategoryMode + "`" + ` | ` + "`" + placement.ModeOff + "`" + ` | this VM is never changed |
| ` + "`" + placement.CategoryMaxCPUs + "`" + ` | a number of virtual CPUs | the VM gets no more |
| ` + "`" + placement.CategoryMaxMemory + "`" + ` | MB | the VM gets no more |
| ` + "`" + placement.CategoryCPUs + "`, `" + placement.CategoryMemory + "`, `" + placement.CategoryCoresPerSocket + "`" + ` | a number | wanted from the next power-off on |
| ` + "`" + placement.CategoryCPUHotAdd + "`, `" + placement.CategoryCPUHotRemove + "`, `" + placement.CategoryMemoryHotAdd + "`" + ` | ` + "`true`, `false`" + ` | wanted from the next power-off on |

## Which VMs are chosen

With a target, a round preempts the fewest VMs that cover the shortfall:

1. Lower priorities come first. A VM is chosen only if the VMs of lower priority are not enough within the limits.
2. A VM is not chosen if a group or scope budget does not allow it. Of several budgets the most restrictive one applies, and is named.
3. As few VMs as possible are chosen. Among equally small sets, VMs with fewer preemptions in the last 24 hours are preferred, then the
   closest fit to the shortfall, then the youngest, then the smaller MoRef.
4. VMs that turn out not to be needed are removed from the plan, higher priorities first.

The usage is that of the scope's hosts that are connected and not in maintenance: cores × MHz, memory, live usage. What was freed in
the last minute, or is being freed, is subtracted as a credit. A host that is entering maintenance counts until it has entered it. For a
host's alarm, the larger of the host's and its cluster's shortfall counts. If usage cannot be measured, no VM is chosen.

Without a target, up to ` + "`maxVMs`" + ` VMs are chosen, by priority, fewer preemptions, youngest, MoRef.
`

func TestTheSchemaListsEachAction(t *testing.T) {
	var all []string
	for _, a := range action.All() {
		all = append(all, string(a))
	}
	lists := 0
	readSchema(t).leaves("", func(path string, leaf *schema) {
		if !strings.HasSuffix(path, ".action") {
			return
		}
		if lists++; !slices.Equal(leaf.Enum, all) {
			t.Errorf("%s lists %v, want %v", path, leaf.Enum, all)
		}
	})
	if lists == 0 {
		t.Error("no list was found")
	}
}
