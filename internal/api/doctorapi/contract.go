// Package doctorapi holds what passes between the diagnosis and who asks for it. It is apart from internal/doctor so
// that preemptctl links no vCenter gateway. It imports no other package of this project.
package doctorapi

// Type is the workflow that has a worker look at itself and its vCenter: it takes an Input and answers a Result.
const Type = "Diagnosis"

// Input asks for one.
type Input struct {
	// AttributeVM is the name or MoRef of a VM on which to try how long a custom attribute may be; "" for none.
	AttributeVM string `json:"attributeVM,omitempty"`
}

// State is what a check found.
type State string

// The states of a check.
const (
	OK      State = "ok"
	Warning State = "warning" // it works, but not all of it, or not for long
	Failed  State = "failed"
	Skipped State = "skipped" // what must come before it failed
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Result is what a worker found. A check that failed is no error of the workflow.
type Result struct {
	Worker  string  `json:"worker"`  // identity
	Version string  `json:"version"` // of the program
	Rules   int     `json:"rules"`
	Checks  []Check `json:"checks"`
}
