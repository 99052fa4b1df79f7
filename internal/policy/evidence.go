package policy

import (
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// lost returns why the VM is no longer ours: others touched it since the power-off of our record, it is on, it was
// turned off again since, or nothing proves that we turned it off. lasts is how long after a request to shut down a
// power-off is attributed to that request.
func (o *Owned) lost(lasts time.Duration) (Reason, string) {
	switch touched := o.Touched != nil && !o.Touched.Time.Before(o.ourSince()); {
	case touched:
		return TouchedByOwner, fmt.Sprintf("%s by %s", o.Touched.Event, o.Touched.User)
	case o.PowerState == vsphere.PoweredOn:
		return AlreadyOn, ""
	case o.Off == nil:
		return NoEvidence, "vCenter's event history holds nothing of its power-off at " + o.Record.At.UTC().Format(time.RFC3339) +
			" (purged, or more than vCenter gives); if it is to come back, power it on by hand"
	case !o.Off.Ours && o.Off.User != "":
		return TouchedByOwner, fmt.Sprintf("%s by %s", o.Off.Event, o.Off.User)
	case !o.Off.Ours:
		return NoEvidence, "its guest went off by itself"
	case !o.recorded():
		return NoEvidence, fmt.Sprintf("our record is of its power-off at %s, and it went off again at %s",
			o.ourSince().UTC().Format(time.RFC3339), o.Off.Time.UTC().Format(time.RFC3339))
	case o.Off.User == "" && !o.Off.Asked.IsZero() && o.Off.Time.Sub(o.Off.Asked) > lasts && o.Off.Time.Sub(o.Record.At).Abs() > sameMoment:
		return NoEvidence, fmt.Sprintf("its guest went off by itself, %s after it was asked to", brief(o.Off.Time.Sub(o.Off.Asked).Round(time.Second)))
	}
	return "", ""
}

const (
	// sameMoment is how far apart our record and vCenter's event of one power-off may be if a round has decided about
	// it. The policy of that time may have given guests longer than today's does.
	sameMoment = 15 * time.Minute
	// clocksDiffer is how far vCenter's clock may be ahead of ours.
	clocksDiffer = 2 * time.Hour
)

// recorded reports whether the VM's last power-off is the one of our record, and not a later one. Of the last two
// power-offs it is the one closer to the record, which was written when we saw the VM off.
func (o *Owned) recorded() bool {
	at := o.Record.At
	if !o.Off.Before.IsZero() && o.Off.Before.Sub(at).Abs() < o.Off.Time.Sub(at).Abs() {
		return false
	}
	return o.Off.Time.Sub(at) <= clocksDiffer
}

// ourSince returns the time of the power-off of our record. If others have touched the VM since then, it is its owner's.
func (o *Owned) ourSince() time.Time {
	switch {
	case o.Off == nil || o.Record == nil || o.recorded():
		return o.Since()
	case !o.Off.Before.IsZero():
		return o.Off.Before
	}
	return o.Record.At
}
