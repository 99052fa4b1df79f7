package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// The names of checks on vCenter.
const (
	connection  = "vCenter connection"
	certificate = "vCenter certificate"
	login       = "vCenter login"
)

// expirySoon is how long before its end a certificate is warned of.
const expirySoon = 30 * 24 * time.Hour

// trouble takes an error apart. remedy holds where the error knows none.
func trouble(err error, remedy string) (text, do string) {
	var known *vcenter.Error
	if !errors.As(err, &known) {
		return err.Error(), remedy
	}
	bare := *known
	bare.Remedy = ""
	if known.Remedy != "" {
		remedy = known.Remedy
	}
	return bare.Error(), remedy
}

// reach reports whether vCenter answers at all.
func (e *examination) reach(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	began := time.Now()
	now, err := e.VCenter.ServerTime(ctx)
	if err == nil { // once more, now that the session stands: a login takes time
		began = time.Now()
		now, err = e.VCenter.ServerTime(ctx)
	}
	half := time.Since(began) / 2
	kind := vcenter.KindOf(err)
	if err != nil && (ctx.Err() != nil || kind == vcenter.Unavailable || kind == vcenter.Unknown) {
		text, remedy := trouble(err, "check VCENTER_URL, and that the worker may reach it: DNS, routes, firewalls, network policy, proxy")
		e.add(doctorapi.Failed, connection, text, remedy)
		return false
	}
	e.add(doctorapi.OK, connection, "it answers", "")
	if kind == vcenter.Certificate {
		text, remedy := trouble(err, "")
		e.add(doctorapi.Failed, certificate, text, remedy)
		return false
	}
	e.certificate()
	if err == nil {
		err = e.VCenter.Connect(ctx) // the other API as well
	}
	if err != nil {
		text, remedy := trouble(err, "write user and password into the files username and password of VCENTER_SECRET_PATH")
		e.add(doctorapi.Failed, login, text, remedy)
		return false
	}
	e.add(doctorapi.OK, login, fmt.Sprintf("as %s, to version %s, in version %s of its API", e.VCenter.User(), e.VCenter.Version(), e.VCenter.ServiceVersion()), "")
	e.clock("clock of vCenter", "vCenter's", began.Add(half).Sub(now))
	return true
}

func (e *examination) certificate() {
	c, ok := e.VCenter.Presented()
	left := time.Until(c.NotAfter)
	ends := "until " + c.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case !e.VCenter.Encrypted():
		e.add(doctorapi.Warning, certificate, "the connection is not encrypted: whoever is in between can read the password", "let VCENTER_URL start with https://")
	case !ok:
		e.add(doctorapi.Warning, certificate, "it was not seen", "")
	case c.Trust == "":
		e.add(doctorapi.Warning, certificate, "it is not verified: whoever is in between can read the password; valid "+ends,
			"set VCENTER_CA_FILE, or VCENTER_THUMBPRINT="+c.Thumbprint+" if that is really your vCenter's, instead of VCENTER_INSECURE")
	case left <= 0:
		e.add(doctorapi.Warning, certificate, "trusted by "+c.Trust+", but it ended on "+c.NotAfter.UTC().Format(time.DateOnly), "renew it in vCenter")
	case left < expirySoon:
		e.add(doctorapi.Warning, certificate, fmt.Sprintf("trusted by %s; it ends in %s", c.Trust, shown.Count(int(left.Hours()/24), "day")),
			"renew it in vCenter, and give the worker the new thumbprint if it pins one")
	default:
		e.add(doctorapi.OK, certificate, "trusted by "+c.Trust+"; valid "+ends, "")
	}
}

func (e *examination) alarmsSeen(ctx context.Context) {
	states, unseen, err := e.VCenter.TriggeredAlarms(ctx)
	if err != nil {
		text, remedy := trouble(err, "give "+e.VCenter.User()+" the role Read-only on vCenter's root, with propagation")
		e.add(doctorapi.Failed, "alarms", text, remedy)
		return
	}
	if len(unseen) > 0 {
		e.add(doctorapi.Warning, "alarms", fmt.Sprintf("%d are yellow or red now, of which %d cannot be read: neither rule nor restore knows of them",
			len(states)+len(unseen), len(unseen)), "give "+e.VCenter.User()+" the role Read-only on vCenter's root, with propagation")
		return
	}
	e.add(doctorapi.OK, "alarms", fmt.Sprintf("their states can be read; %d are yellow or red now", len(states)), "")
}

// tags checks the tag of each rule; without such a rule those that are allowed, or the default.
func (e *examination) tags(ctx context.Context) {
	for _, name := range e.ruleTags() {
		e.tag(ctx, name)
	}
}

func (e *examination) ruleTags() (names []string) {
	for _, r := range e.Rules {
		if tag := r.Action.VMTag(); tag != "" {
			names = append(names, tag)
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		names = slices.Clone(e.Allowed)
	}
	if len(names) == 0 {
		names = []string{preemption.DefaultTag}
	}
	return names
}

func (e *examination) tag(ctx context.Context, name string) {
	line := "tag " + name
	category, carriers, err := e.VCenter.Tag(ctx, name)
	if err != nil {
		text, remedy := trouble(err, "")
		if vcenter.KindOf(err) == vcenter.TagNotFound {
			remedy += "; if it is there, give " + e.VCenter.User() + " Read-only as a global permission: tags are outside the inventory"
		}
		e.add(doctorapi.Failed, line, text, remedy)
		return
	}
	var vms, others int
	for _, ref := range carriers {
		if ref.Type != vsphere.TypeVM {
			others++
			continue
		}
		vms++
		e.carrier = append(e.carrier, ref)
	}
	text := fmt.Sprintf("in category %s, on %s", category, shown.Count(vms, "VM"))
	switch {
	case len(e.Allowed) > 0 && !slices.Contains(e.Allowed, name):
		e.add(doctorapi.Failed, line, text+"; this worker refuses requests for it", "add it to limits.allowedTags, or take it out of the rules")
	case others > 0:
		e.add(doctorapi.Warning, line, fmt.Sprintf("%s, and on %d objects that are no VMs, which are left alone", text, others), "attach it to their VMs instead")
	case vms == 0:
		e.add(doctorapi.Warning, line, text+": nobody would go", "attach it to VMs: govc tags.attach "+name+" /DATACENTER/vm/NAME")
	default:
		e.add(doctorapi.OK, line, text, "")
	}
}

// attribute checks whether preempted VMs can be annotated.
func (e *examination) attribute(ctx context.Context) {
	const name = preemption.AttributeKey
	line := "attribute " + name
	has, err := e.VCenter.HasAttribute(ctx, name)
	if err != nil {
		text, remedy := trouble(err, "")
		e.add(doctorapi.Failed, line, text, remedy)
		return
	}
	if has {
		e.add(doctorapi.OK, line, "it is there", "")
		return
	}
	lacks, err := e.VCenter.Lacks(ctx, []string{manageFields}, nil)
	switch {
	case err != nil:
		text, _ := trouble(err, "")
		e.add(doctorapi.Warning, line, "it is not there, and whether it may be made is unknown: "+text, makeField)
	case len(lacks) > 0:
		e.add(doctorapi.Failed, line, "it is not there, and "+e.VCenter.User()+" may not make it: VMs are preempted, and not annotated",
			makeField+", or give "+e.VCenter.User()+" "+manageFields+" on vCenter's root")
	default:
		e.add(doctorapi.OK, line, "it is made with the first preemption", "")
	}
}

const (
	manageFields = "Global.ManageCustomFields"
	makeField    = "govc fields.add -type VirtualMachine " + preemption.AttributeKey
)

// policies counts what the worker would act by.
func (e *examination) policies() {
	var observe []string
	for name, p := range e.Policies {
		if p.Mode == policy.ModeObserve {
			observe = append(observe, name)
		}
	}
	slices.Sort(observe)
	text := strings.Join(slices.Sorted(maps.Keys(e.Policies)), ", ")
	switch {
	case e.Observe || len(observe) == len(e.Policies):
		text += "; mode observe: no VM is touched"
	case len(observe) > 0:
		text += "; these only observe: " + strings.Join(observe, ", ")
	}
	e.add(doctorapi.OK, "policies", text, "")
}
