package preempt

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

const MaxSparedInFull = 500 // spared candidates kept one by one in a payload, more become counts

// PersonWaits is how long a plan waits for vCenter: somebody sits before it.
const PersonWaits = time.Minute

const MaxReplans = 5 // how often a plan is made anew because others changed what it rests on

// Clip shortens untrusted text for messages and logs.
func Clip(s string) string { return shown.Clip(s, 80) }

// MaxNamed bounds how many VMs one restore may name.
const MaxNamed = 100
