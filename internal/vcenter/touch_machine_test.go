package vcenter

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

func devices(list ...types.BaseVirtualDevice) (spec types.VirtualMachineConfigSpec) {
	for _, d := range list {
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{Device: d})
	}
	return spec
}

func TestWhatMachinesChangeOnAVMThatIsOffIsNoTouch(t *testing.T) {
	v, g := warm(t, many(4))
	refs := taggedRefs(v)
	check(t, v.DetachVolumeAs(toMoRef(refs[0]), "k8s-csi@vsphere.local"))
	check(t, v.BackUpAs(toMoRef(refs[1]), "backup@vsphere.local"))
	check(t, v.EvacuateAs(toMoRef(refs[2]), "admin@vsphere.local"))
	check(t, v.RefitAs(toMoRef(refs[3]), owner))
	touched, err := g.TouchedSince(t.Context(), refs, time.Now().Add(-time.Minute))
	check(t, err)
	if len(touched) != 1 || touched[refs[3]].Event != "VmReconfiguredEvent" {
		t.Errorf("touched %+v", touched)
	}
}

func TestOfATrustedUserOnlyUseIsATouch(t *testing.T) {
	v, _ := warm(t, many(3))
	g := gateway(t, v, func(c *Config) { c.TrustedUsers = []string{`vsphere.local\Autoscaler`} })
	refs := taggedRefs(v)
	check(t, v.RefitAs(toMoRef(refs[0]), "autoscaler@vsphere.local"))
	check(t, v.RefitAs(toMoRef(refs[1]), owner))
	check(t, v.PowerOffAs(toMoRef(refs[2]), "autoscaler@vsphere.local"))
	touched, err := g.TouchedSince(t.Context(), refs, time.Now().Add(-time.Minute))
	check(t, err)
	if _, ok := touched[refs[0]]; ok || len(touched) != 2 || touched[refs[2]].Event != "VmPoweredOffEvent" {
		t.Errorf("touched %+v", touched)
	}
}
