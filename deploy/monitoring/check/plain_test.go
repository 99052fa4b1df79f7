package check

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/prometheus/prometheus/model/rulefmt"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write rules.yaml anew")

const (
	plainFile  = "../rules.yaml"
	plainAbout = "# The alerts of alerts.yaml for a Prometheus without the operator: name this file in rule_files, see prometheus.example.yaml.\n" +
		"# Generated: cd deploy/monitoring/check && go test ./... -run PlainRules -update\n"
)

func TestThePlainRulesAreTheOperators(t *testing.T) {
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
	want := append([]byte(plainAbout), text...)
	if *update {
		if err := os.WriteFile(plainFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, plainFile)
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what alerts.yaml says: go test ./... -run PlainRules -update", plainFile)
	}
	parsed, errs := rulefmt.Parse(got, false)
	if len(errs) > 0 || len(parsed.Groups) == 0 {
		t.Errorf("Prometheus does not take it: %v", errs)
	}
}

func TestTheScrapeExampleNamesTheRulesAndJobsThatTheAlertsAreOn(t *testing.T) {
	var c struct {
		RuleFiles []string `json:"rule_files"`
		Scrape    []struct {
			Job     string `json:"job_name"`
			Path    string `json:"metrics_path"`
			Every   string `json:"scrape_interval"`
			Targets []struct {
				Targets []string `json:"targets"`
			} `json:"static_configs"`
		} `json:"scrape_configs"`
	}
	if err := yaml.UnmarshalStrict(read(t, "../prometheus.example.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.RuleFiles) != 1 || c.RuleFiles[0] != "rules.yaml" || len(c.Scrape) != 2 {
		t.Fatalf("%+v", c)
	}
	for _, s := range c.Scrape { // the alert on programs that are down is on such names
		if !bytes.Contains([]byte(s.Job), []byte("preemption")) || s.Path != "/metrics" || len(s.Targets) == 0 {
			t.Errorf("%+v", s)
		}
	}
}
