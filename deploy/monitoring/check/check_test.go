package check

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// rule is one alert.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type resource struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace,omitempty"`
		Labels    map[string]string `json:"labels,omitempty"`
	} `json:"metadata"`
	Spec struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []rule `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

// alerts reads the rules strictly.
func alerts(t *testing.T) (rules []rule) {
	t.Helper()
	var r resource
	if err := yaml.UnmarshalStrict(read(t, "../alerts.yaml"), &r); err != nil {
		t.Fatal(err)
	}
	if r.APIVersion != "monitoring.coreos.com/v1" || r.Kind != "PrometheusRule" || r.Metadata.Name == "" {
		t.Fatalf("alerts.yaml is no PrometheusRule: %+v", r)
	}
	for _, g := range r.Spec.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

func TestPrometheusTakesTheRules(t *testing.T) {
	var r struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := yaml.Unmarshal(read(t, "../alerts.yaml"), &r); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.JSONToYAML(r.Spec)
	if err != nil {
		t.Fatal(err)
	}
	_, errs := rulefmt.Parse(text, false)
	for _, err := range errs {
		t.Error(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// metric is what docs/metrics.md, which a test of the programs holds to their registry, says of one.
type metric struct {
	kind   string
	labels []string
}

func metrics(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{"up": {kind: "gauge"}, "process_start_time_seconds": {kind: "gauge"}, "process_resident_memory_bytes": {kind: "gauge"}}
	for line := range strings.Lines(string(read(t, "../../../docs/metrics.md"))) {
		cells := strings.Split(line, " | ")
		if len(cells) != 5 || !strings.HasPrefix(line, "| `") {
			continue
		}
		m := metric{kind: cells[1], labels: strings.FieldsFunc(cells[2], func(r rune) bool { return strings.ContainsRune("`, ", r) })}
		name := strings.Trim(cells[0], "|` ")
		if m.kind != "histogram" {
			all[name] = m
			continue
		}
		all[name+"_count"], all[name+"_sum"] = m, m
		m.labels = append(slices.Clone(m.labels), "le")
		all[name+"_bucket"] = m
	}
	if len(all) < 60 {
		t.Fatalf("docs/metrics.md names only %d metrics", len(all))
	}
	return all
}

// ofTarget are the labels that Prometheus itself puts on what it scrapes.
var ofTarget = []string{labels.MetricName, "job", "namespace", "pod", "instance", "container"}

// holds tells what a query asks for that the programs do not have.
func holds(t *testing.T, known map[string]metric, where, query string) {
	t.Helper()
	expr, err := parser.ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	var asked []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			m, ok := known[s.Name]
			if !ok {
				t.Errorf("%s asks for %q, which no program has", where, s.Name)
			}
			for _, l := range s.LabelMatchers {
				if !slices.Contains(m.labels, l.Name) && !slices.Contains(ofTarget, l.Name) {
					t.Errorf("%s asks for the label %q, which %s has not", where, l.Name, s.Name)
				}
			}
			asked = append(asked, m.labels...)
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.AggregateExpr:
			for _, l := range n.Grouping {
				if !slices.Contains(asked, l) && !slices.Contains(ofTarget, l) {
					t.Errorf("%s groups by %q, which nothing in it has", where, l)
				}
			}
		case *parser.Call:
			if slices.Contains([]string{"rate", "increase", "irate"}, n.Func.Name) {
				counters(t, known, where, n)
			}
		}
		return nil
	})
}

// counters wants that what a rate is taken of counts.
func counters(t *testing.T, known map[string]metric, where string, call *parser.Call) {
	parser.Inspect(call, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok && known[s.Name].kind == "gauge" {
			t.Errorf("%s takes a rate of the gauge %s", where, s.Name)
		}
		return nil
	})
}

func TestEveryAlertAsksForWhatIsThereAndHasAnEntryInTheRunbook(t *testing.T) {
	known, runbook := metrics(t), string(read(t, "../../../docs/runbook.md"))
	seen := map[string]bool{}
	for _, r := range alerts(t) {
		holds(t, known, r.Alert, r.Expr)
		if seen[r.Alert] || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s must be there once, with severity, summary and description", r.Alert)
		}
		seen[r.Alert] = true
		if !strings.Contains(runbook, "\n## "+r.Alert+"\n") {
			t.Errorf("docs/runbook.md has no entry %s", r.Alert)
		}
		if want := "docs/runbook.md#" + strings.ToLower(r.Alert); !strings.HasSuffix(r.Annotations["runbook_url"], want) {
			t.Errorf("the runbook_url of %s must end in %s", r.Alert, want)
		}
	}
	for _, entry := range regexp.MustCompile(`(?m)^## (Preemption\w+)$`).FindAllStringSubmatch(runbook, -1) {
		if !seen[entry[1]] {
			t.Errorf("docs/runbook.md has the entry %s, and there is no such alert", entry[1])
		}
	}
}

func TestEveryQueryOfTheDashboardAsksForWhatIsThere(t *testing.T) {
	var board struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal(read(t, "../dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	known := metrics(t)
	used := map[string]bool{}
	names := regexp.MustCompile(`preemption_\w+`)
	for _, p := range board.Panels {
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("the panel %s has no query", p.Title)
		}
		for _, target := range p.Targets {
			// Grafana's variables, as it would fill them in.
			query := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$job", ".*").Replace(target.Expr)
			holds(t, known, p.Title, query)
			for _, name := range names.FindAllString(query, -1) {
				used[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")] = true
			}
		}
	}
	for name := range known {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "preemption_") && !used[base] {
			t.Errorf("no panel shows %s", base)
		}
	}
}
