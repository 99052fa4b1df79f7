package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// The names of the checks that only a live vCenter can answer.
const (
	apiVersion    = "vSphere API"
	several       = "several objects at once"
	powerOffs     = "power-off events"
	valueLength   = "attribute length"
	clustersShown = 50
	lateEvents    = 10 * time.Second
	lagOver       = 24 * time.Hour
)

// live asks vCenter what its documents do not say.
func (e *examination) live(ctx context.Context, in doctorapi.Input) {
	e.version(ctx)
	e.clusters(ctx)
	e.severalObjects(ctx)
	e.powerOffLag(ctx)
	if in.AttributeVM == "" {
		e.longestValue(ctx)
	} else {
		e.tryValues(ctx, in.AttributeVM)
	}
}

func (e *examination) unknown(name string, err error) {
	text, remedy := trouble(err, "")
	e.add(doctorapi.Warning, name, "it could not be found out: "+text, remedy)
}

func (e *examination) version(ctx context.Context) {
	own, err := e.VCenter.APIVersion(ctx)
	if err != nil {
		e.unknown(apiVersion, err)
		return
	}
	e.add(doctorapi.OK, apiVersion, fmt.Sprintf("the session speaks %s, vCenter's own is %s", orUnknown(e.VCenter.ServiceVersion()), orUnknown(own)), "")
}

func orUnknown(text string) string {
	if text == "" {
		return "an unknown version"
	}
	return text
}

// clusters reports how DRS, DPM and HA of each cluster are set, which decides what becomes of a power-on.
func (e *examination) clusters(ctx context.Context) {
	list, err := e.VCenter.ClusterModes(ctx)
	if err != nil {
		e.unknown("clusters", err)
		return
	}
	if len(list) == 0 {
		e.add(doctorapi.OK, "clusters", "our user sees none", "")
	}
	for _, c := range list[:min(len(list), clustersShown)] {
		e.cluster(c)
	}
	if more := len(list) - clustersShown; more > 0 {
		e.add(doctorapi.OK, "clusters", fmt.Sprintf("%d more are not shown", more), "")
	}
}

func (e *examination) cluster(c vcenter.ClusterModes) {
	name := "cluster " + c.Ref.Value
	if !c.Seen {
		e.add(doctorapi.Warning, name, "its DRS, DPM and HA are not shown to our user", "give "+e.VCenter.User()+" the role Read-only on it")
		return
	}
	ha := "HA off"
	switch {
	case c.Admission != "":
		ha = "HA with admission control " + c.Admission
	case c.HA:
		ha = "HA without admission control"
	}
	text := fmt.Sprintf("DRS %s, DPM %s, %s", orOff(c.DRS), orOff(c.DPM), ha)
	if (c.DRS == "manual" || c.DRS == "partiallyAutomated") && e.restores() {
		e.add(doctorapi.Warning, name, text+": what a restore powers on may wait for a person", "let DRS of the cluster be fully automated")
		return
	}
	e.add(doctorapi.OK, name, text, "")
}

func orOff(mode string) string {
	if mode == "" {
		return "off"
	}
	return mode
}

func (e *examination) restores() bool {
	for _, p := range e.Policies {
		if p.Restore.Enabled {
			return true
		}
	}
	return false
}

// severalObjects finds out whether one filter may begin at several objects, as those of plans and waits do.
func (e *examination) severalObjects(ctx context.Context) {
	refs := append([]vsphere.Ref{}, e.carrier[:min(len(e.carrier), maxAsked)]...)
	if len(refs) < 2 {
		centers, err := e.VCenter.Datacenters(ctx)
		if err != nil {
			e.unknown(several, err)
			return
		}
		for _, c := range centers {
			refs = append(refs, c.Ref)
		}
	}
	if len(refs) < 2 {
		e.add(doctorapi.OK, several, "not tried: there are no two objects to try it with", "")
		return
	}
	answered, err := e.VCenter.TakesSeveral(ctx, refs)
	switch {
	case err != nil:
		text, remedy := trouble(err, "")
		e.add(doctorapi.Failed, several, fmt.Sprintf("a filter on %d objects is refused, which plans and waits need: %s", len(refs), text), remedy)
	case answered < len(refs):
		e.add(doctorapi.Warning, several, fmt.Sprintf("of %d objects in one filter %d are answered", len(refs), answered), "the others may be gone, or hidden from "+e.VCenter.User())
	default:
		e.add(doctorapi.OK, several, fmt.Sprintf("a filter on %d objects is taken", len(refs)), "")
	}
}

// powerOffLag reports how far power-off events are behind their tasks.
func (e *examination) powerOffLag(ctx context.Context) {
	lag, err := e.VCenter.PowerOffLag(ctx, time.Now().Add(-lagOver))
	if err != nil {
		e.unknown(powerOffs, err)
		return
	}
	if lag.Events == 0 {
		e.add(doctorapi.OK, powerOffs, "no power-off of the last day has its task and event", "")
		return
	}
	text := fmt.Sprintf("of the last %d power-offs the events are stamped %s (median) and %s (longest) after the tasks ended",
		lag.Events, lag.Median.Round(time.Millisecond), lag.Longest.Round(time.Millisecond))
	if lag.Longest > lateEvents {
		e.add(doctorapi.Warning, powerOffs, text, "report it: evidence of who turned a VM off may come too late")
		return
	}
	e.add(doctorapi.OK, powerOffs, text, "")
}

func (e *examination) longestValue(ctx context.Context) {
	on := e.carrier[:min(len(e.carrier), maxAsked)]
	longest, err := e.VCenter.LongestValue(ctx, on)
	if err != nil {
		e.unknown(valueLength, err)
		return
	}
	e.add(doctorapi.OK, valueLength, fmt.Sprintf("the longest value on %d tagged VMs has %d characters; --attribute-on VM tries how many are accepted", len(on), longest), "")
}

// triedLengths are around what databases and protocols are known to end at.
var triedLengths = []int{255, 256, 511, 1023, 1024, 2000, 2048, 4000, 4096, 8000, 8192, 16384, 32767, 65535}

// tryValues tries how long a value may be, on one VM that somebody named for it.
func (e *examination) tryValues(ctx context.Context, vm string) {
	const name = preemption.AttributeKey
	ref, err := e.VCenter.FindVM(ctx, vm)
	if err != nil {
		text, remedy := trouble(err, "")
		e.add(doctorapi.Failed, valueLength, text, remedy)
		return
	}
	before, err := e.VCenter.Annotations(ctx, []vsphere.Ref{ref}, name)
	if err != nil {
		e.unknown(valueLength, err)
		return
	}
	if before[ref] != "" && !strings.HasPrefix(before[ref], probePrefix) {
		e.add(doctorapi.Failed, valueLength, ref.Value+" carries the attribute already: nothing was tried", "name a VM that was never preempted")
		return
	}
	tried, err := e.VCenter.TryValues(ctx, ref, name, triedLengths, probeValue)
	switch {
	case err != nil:
		text, remedy := trouble(err, "")
		e.add(doctorapi.Failed, valueLength, fmt.Sprintf("%d characters are accepted, more could not be tried: %s", tried.Accepted, text), remedy)
	case tried.Refused > 0:
		text, _ := trouble(tried.Why, "")
		e.add(doctorapi.OK, valueLength, fmt.Sprintf("%d characters are accepted, %d are not: %s", tried.Accepted, tried.Refused, text), "")
	default:
		e.add(doctorapi.OK, valueLength, fmt.Sprintf("%d characters are accepted, more were not tried", tried.Accepted), "")
	}
}

// probePrefix begins every value that is tried. A value that begins so was left by an attempt whose worker died.
const probePrefix = `{"preempted":false,"probe":"`

// probeValue is a value of that length that says of no VM that it was preempted.
func probeValue(length int) string {
	value := struct {
		Preempted bool   `json:"preempted"`
		Probe     string `json:"probe"`
	}{}
	empty, _ := json.Marshal(value) // a bool and a text
	value.Probe = strings.Repeat("x", max(0, length-len(empty)))
	text, _ := json.Marshal(value)
	return string(text)
}
