// Package e2e holds the end-to-end tests and benchmarks of the main job: a real Temporal server, a
// simulated vCenter, real HTTP and real workers. It has no code of its own outside its tests.
package e2e
