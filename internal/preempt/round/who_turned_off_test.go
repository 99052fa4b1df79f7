package round

import (
	"errors"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

func TestWhoseDoingItWasThatAVMIsOff(t *testing.T) {
	now := time.Now()
	sent := ActTarget{SentAt: now.Add(-10 * time.Minute)}
	guest := vcenter.Evidence{Event: "VmPoweredOffEvent", Time: now, Ours: true, Asked: sent.SentAt}
	byItself := vcenter.Evidence{Event: "VmPoweredOffEvent", Time: now}
	owner := vcenter.Evidence{Event: "VmPoweredOffEvent", Time: now, User: `CORP\owner`}
	cut := vcenter.Evidence{Event: "VmPoweredOffEvent", Time: now, User: `CORP\us`, Ours: true}
	asked := vcenter.Evidence{Asked: now}
	none := vcenter.Evidence{}
	watched, late := attribution{watched: true}, attribution{watched: true, late: true}
	again, lateAgain := attribution{shutdownLasts: time.Hour}, attribution{late: true, shutdownLasts: time.Hour}
	const ours = ""
	for what, c := range map[string]struct {
		claim   attribution
		target  ActTarget
		ev      vcenter.Evidence
		taken   bool
		err     error
		outcome action.Outcome
		cut     bool
	}{
		"we asked its guest and looked on":                        {claim: watched, target: sent, ev: guest, outcome: ours},
		"the same, and no event came":                             {claim: watched, target: sent, ev: none, outcome: ours},
		"the same, and only the request came":                     {claim: watched, target: sent, ev: asked, outcome: ours},
		"the same, and events cannot be read":                     {claim: watched, target: sent, err: errors.New("no permission"), outcome: ours},
		"the same, and the request never came":                    {claim: watched, target: sent, ev: byItself, outcome: ours},
		"the same, and its off event names our user":              {claim: watched, target: sent, ev: cut, outcome: ours},
		"its guest was never asked, and no event came":            {claim: watched, target: ActTarget{SentAt: now, Unasked: true}, outcome: action.Unattributed},
		"its guest was never asked, and it went by itself":        {claim: watched, target: ActTarget{SentAt: now, Unasked: true}, ev: byItself, outcome: action.AlreadyOff},
		"its owner cut the power":                                 {claim: watched, target: sent, ev: owner, outcome: action.AlreadyOff},
		"a late guest went by our shutdown":                       {claim: late, target: sent, ev: guest, outcome: ours},
		"a late guest, and no event came":                         {claim: late, target: sent, ev: none, outcome: ours},
		"a late guest, whose off event names our user":            {claim: late, target: sent, ev: cut, outcome: ours},
		"a late guest that another round took":                    {claim: late, target: sent, ev: cut, taken: true, outcome: action.AlreadyOff},
		"a late guest that went by itself":                        {claim: late, target: sent, ev: byItself, outcome: action.AlreadyOff},
		"a late guest whose events cannot be read":                {claim: late, target: sent, err: errors.New("no permission"), outcome: action.Unattributed},
		"a late guest that nobody looked on for, without events":  {claim: lateAgain, target: sent, ev: none, outcome: action.Unattributed},
		"after a crash our power-off shows":                       {claim: again, ev: cut, outcome: ours, cut: true},
		"after a crash our guest shutdown shows":                  {claim: again, ev: guest, outcome: ours},
		"after a crash our request alone shows":                   {claim: again, ev: asked, outcome: ours},
		"after a crash nothing shows":                             {claim: again, ev: none, outcome: action.Unattributed},
		"after a crash, its guest went by itself":                 {claim: again, ev: byItself, outcome: action.AlreadyOff},
		"after a crash, we had asked before, and nothing shows":   {claim: again, target: sent, ev: none, outcome: ours},
		"it went long after what an earlier round had asked it":   {claim: attribution{shutdownLasts: time.Minute}, ev: guest, outcome: action.AlreadyOff},
		"we asked, another round holds the record of its end":     {claim: again, target: sent, ev: guest, taken: true, outcome: action.AlreadyOff},
		"its owner cut the power, and another round has recorded": {claim: late, target: sent, ev: owner, taken: true, outcome: action.AlreadyOff},
	} {
		t.Run(what, func(t *testing.T) {
			if v := c.claim.decide(c.target, c.ev, c.taken, c.err); v.outcome != c.outcome || v.cut != c.cut {
				t.Errorf("got %+v, want outcome %q, cut %v", v, c.outcome, c.cut)
			}
		})
	}
}
