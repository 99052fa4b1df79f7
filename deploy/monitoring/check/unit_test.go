package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"sigs.k8s.io/yaml"
)

// file is a file of unit tests in the form of "promtool test rules".
type file struct {
	RuleFiles          []string `json:"rule_files"`
	EvaluationInterval string   `json:"evaluation_interval"`
	Tests              []struct {
		Name        string `json:"name"`
		Interval    string `json:"interval"`
		InputSeries []struct {
			Series string `json:"series"`
			Values string `json:"values"`
		} `json:"input_series"`
		AlertRuleTest []struct {
			EvalTime  string `json:"eval_time"`
			Alertname string `json:"alertname"`
			ExpAlerts []struct {
				ExpLabels      map[string]string `json:"exp_labels,omitempty"`
				ExpAnnotations map[string]string `json:"exp_annotations,omitempty"`
			} `json:"exp_alerts,omitempty"`
		} `json:"alert_rule_test"`
	} `json:"tests"`
}

// fixture is one series of a test.
type fixture struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// sample is a float; the unit tests have no native histograms.
type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                      { return s.at }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// set are the series that a query selects.
type set struct {
	list []fixture
	at   int
}

func (s *set) Next() bool { s.at++; return s.at < len(s.list) }
func (s *set) At() storage.Series {
	return storage.NewListSeries(s.list[s.at].labels, s.list[s.at].samples)
}
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }

func queryable(all []fixture) storage.Queryable {
	return &storage.MockQueryable{MockQuerier: &storage.MockQuerier{
		SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
			found := &set{at: -1}
			for _, f := range all {
				if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(f.labels.Get(m.Name)) }) {
					found.list = append(found.list, f)
				}
			}
			return found
		},
	}}
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	if s == "" {
		return 0
	}
	d, err := model.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(d)
}

// firing evaluates the rule at each interval until then, and returns the labels of what fires then.
func firing(t *testing.T, engine *promql.Engine, q storage.Queryable, r rule, every, until time.Duration) (alerts []map[string]string) {
	t.Helper()
	since := map[string]time.Duration{}
	for at := time.Duration(0); at <= until; at += every {
		query, err := engine.NewInstantQuery(context.Background(), q, nil, r.Expr, time.UnixMilli(0).Add(at))
		if err != nil {
			t.Fatal(err)
		}
		result := query.Exec(context.Background())
		vector, err := result.Vector()
		if err != nil {
			t.Fatalf("%s: %v", r.Alert, err)
		}
		now := map[string]time.Duration{}
		alerts = nil
		for _, s := range vector {
			key := s.Metric.String()
			begun, pending := since[key]
			if !pending {
				begun = at
			}
			now[key] = begun
			if at-begun >= duration(t, r.For) {
				found := s.Metric.Map()
				delete(found, labels.MetricName)
				maps.Copy(found, r.Labels)
				alerts = append(alerts, found)
			}
		}
		since = now
		query.Close()
	}
	return alerts
}

func TestTheAlertsFireAndStaySilentAsTheirUnitTestsSay(t *testing.T) {
	var f file
	if err := yaml.UnmarshalStrict(read(t, "../alerts_test.yaml"), &f); err != nil {
		t.Fatal(err)
	}
	rules := map[string]rule{}
	for _, r := range alerts(t) {
		rules[r.Alert] = r
	}
	fired, silent := map[string]bool{}, map[string]bool{}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute})
	for _, test := range f.Tests {
		t.Run(test.Name, func(t *testing.T) {
			var all []fixture
			interval := duration(t, test.Interval)
			for _, in := range test.InputSeries {
				lset, values, err := parser.ParseSeriesDesc(in.Series + " " + in.Values)
				if err != nil {
					t.Fatal(err)
				}
				series := fixture{labels: lset}
				for i, v := range values {
					if !v.Omitted {
						series.samples = append(series.samples, sample{int64(i) * interval.Milliseconds(), v.Value})
					}
				}
				all = append(all, series)
			}
			for _, want := range test.AlertRuleTest {
				r, ok := rules[want.Alertname]
				if !ok {
					t.Fatalf("there is no alert %s", want.Alertname)
				}
				got := firing(t, engine, queryable(all), r, duration(t, f.EvaluationInterval), duration(t, want.EvalTime))
				var expected []map[string]string
				for _, a := range want.ExpAlerts {
					expected = append(expected, a.ExpLabels)
				}
				if written(got) != written(expected) {
					t.Errorf("%s at %s: got %s, want %s", want.Alertname, want.EvalTime, written(got), written(expected))
				}
				fired[want.Alertname] = fired[want.Alertname] || len(expected) > 0
				silent[want.Alertname] = silent[want.Alertname] || len(expected) == 0
			}
		})
	}
	for name := range rules {
		if !fired[name] || !silent[name] {
			t.Errorf("the unit tests must show %s both firing and silent", name)
		}
	}
}

func written(alerts []map[string]string) string {
	var all []string
	for _, a := range alerts {
		all = append(all, fmt.Sprint(a))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
