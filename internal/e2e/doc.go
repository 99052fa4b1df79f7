// Package e2e holds the end-to-end tests and benchmarks of rounds, restores, schedules and the programs: a real Temporal
// server, a simulated vCenter, real HTTP and real workers. The packages below it hold those of faults, events and
// remediation; sitetest is what they share.
package e2e
