package vcenter

import (
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestWhatIsToldOfVCenter(t *testing.T) {
	v, g := warm(t, small())
	cert, ok := g.Presented()
	if !ok || cert.Trust != "VCENTER_THUMBPRINT" || cert.Thumbprint != v.ThumbprintSHA256() || time.Until(cert.NotAfter) <= 0 {
		t.Errorf("certificate %+v, %v", cert, ok)
	}
	if !strings.Contains(g.Version(), " build ") {
		t.Errorf("version %q", g.Version())
	}
	v.Alarm("cluster-cpu-above-80")
	alarms, err := g.Alarms(t.Context())
	check(t, err)
	found := false
	for _, a := range alarms {
		found = found || a.Name == "cluster-cpu-above-80" && a.Ref.Value == v.Alarm(a.Name).Value
	}
	if !found {
		t.Errorf("the alarm is not among %v", alarms)
	}
	centers, err := g.Datacenters(t.Context())
	check(t, err)
	if len(centers) != 1 || centers[0].Name == "" {
		t.Errorf("datacenters %v", centers)
	}
	category, carriers, err := g.Tag(t.Context(), "preemptible")
	check(t, err)
	if category != "preemption" || len(carriers) != 3 {
		t.Errorf("category %q, carried by %v", category, carriers)
	}
	_, _, err = g.Tag(t.Context(), "no-such-tag")
	wantKind(t, err, TagNotFound)
}

func TestLackingPrivilegesAreToldByObject(t *testing.T) {
	v, g := warm(t, small())
	const off, on = "VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.PowerOn"
	vms := taggedRefs(v)
	lacks, err := g.Lacks(t.Context(), []string{off, on}, vms)
	check(t, err)
	if len(lacks) != 0 {
		t.Errorf("lacks %v", lacks)
	}
	v.Deny(on)
	lacks, err = g.Lacks(t.Context(), []string{off, on}, vms)
	check(t, err)
	if len(lacks) != 1 || lacks[0].Privilege != on || len(lacks[0].On) != len(vms) || !strings.Contains(lacks[0].On[0].String(), "batch") {
		t.Errorf("lacks %v", lacks)
	}
	lacks, err = g.Lacks(t.Context(), []string{on}, nil)
	check(t, err)
	if len(lacks) != 1 || lacks[0].On[0].Ref.Type != "Folder" {
		t.Errorf("on the root: %v", lacks)
	}
}

func TestTheCustomAttributeIsFound(t *testing.T) {
	_, g := warm(t, small())
	has, err := g.HasAttribute(t.Context(), "a.b")
	if check(t, err); has {
		t.Error("it is there already")
	}
	check(t, g.Annotate(t.Context(), mustOne(t, g), "a.b", "x"))
	if has, err = g.HasAttribute(t.Context(), "a.b"); err != nil || !has {
		t.Errorf("%v, %v", has, err)
	}
}

func mustOne(t *testing.T, g *Gateway) vsphere.Ref {
	t.Helper()
	_, carriers, err := g.Tag(t.Context(), "preemptible")
	check(t, err)
	return carriers[0]
}
