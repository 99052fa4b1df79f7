package preempt

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// Bounds of plans.
const (
	MaxReplans      = 5           // how often a plan is made anew because others changed what it rests on
	MaxSparedInFull = 500         // spared candidates that a payload holds one by one; of more it holds the number
	MaxNamed        = 100         // VMs that one request may name
	PersonWaits     = time.Minute // how long a plan waits for vCenter while a person waits for the plan
)

// Clip shortens untrusted text for messages and logs.
func Clip(s string) string { return shown.Clip(s, 80) }
