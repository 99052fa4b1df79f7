// Package simulation is a vCenter to try things against: govmomi's simulator with tags, alarms, a living load
// model, honest guest shutdowns, and faults, delays, outages and counters to order. Demo, tests and benchmarks use
// it; nothing that runs at a user's site against a real vCenter may.
//
// It imports no other package of this module: what it offers is what a vCenter offers, over SOAP and REST, plus
// direct access to the model that is never counted as a call.
package simulation
