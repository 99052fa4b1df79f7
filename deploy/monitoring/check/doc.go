// Package check tests the alert rules as promtool does, and holds rules and dashboard to the metrics that the programs
// have. It is a module of its own, so that Prometheus' engine stays out of the programs' dependencies.
package check
