package telemetry

import (
	"slices"
)

// Part is a part of the product with metrics of its own.
type Part string

// The parts. The metrics of Temporal's SDK belong to both.
const (
	Worker   Part = "worker"
	Receiver Part = "receiver"
)

// Kind is the type of a metric.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// definition is one metric.
type definition struct {
	name    string // for recording; it is exported with the unit or _total appended
	kind    Kind
	labels  []string
	help    string
	parts   []Part
	start   [][]string // values of each label for which a counter starts at 0
	buckets []float64
}

// exported is the name that Prometheus sees.
func (d definition) exported() string {
	switch d.kind {
	case Counter:
		return d.name + "_total"
	case Histogram:
		return d.name + "_seconds"
	}
	return d.name
}

var (
	brief  = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	usual  = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	long   = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
	events = []string{"AlarmStatusChangedEvent", "other"}

	planResults = []string{"full", "short", "nobody"}
)

// definitions lists every metric but those of the Go runtime and the process.
func definitions() []definition {
	return slices.Concat(ours(), temporals())
}

// ours lists the metrics of this product.
func ours() []definition {
	return slices.Concat(ofHealth(), ofWatch(), ofRounds(), ofPlans(), ofVMs(), ofVCenter(), ofReceiver())
}

// texts are the values of a closed set, as labels have them.
func texts[S ~string](values []S) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}
