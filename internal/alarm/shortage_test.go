package alarm_test

import (
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

func TestOnlyALackOfResourcesIsAShortage(t *testing.T) {
	xml := string(load(t, "vm-failed-to-power-on.xml"))
	vm := `{"key": 1, "vm": {"name": "db-1", "vm": {"type": "VirtualMachine", "value": "vm-9"}}, "reason": `
	for name, c := range map[string]struct {
		class alarm.Class
		data  string
		fault string
		why   string
	}{
		"memory, in XML":                 {alarm.ClassPowerOnFailed, xml, "InsufficientMemoryResourcesFault", ""},
		"with a prefix, in XML":          {alarm.ClassPowerOnFailed, strings.Replace(xml, `"Insuff`, `"vim25:Insuff`, 1), "InsufficientMemoryResourcesFault", ""},
		"a locked file, in XML":          {alarm.ClassPowerOnFailed, strings.Replace(xml, "InsufficientMemoryResourcesFault", "FileLocked", 1), "FileLocked", "FileLocked"},
		"failover, in vCenter's JSON":    {alarm.ClassPowerOnFailed, vm + `{"fault": {"_typeName": "InsufficientFailoverResourcesFault"}}}`, "InsufficientFailoverResourcesFault", ""},
		"disk space":                     {alarm.ClassPowerOnFailed, vm + `{"fault": {"_typeName": "InsufficientStorageSpace"}}}`, "InsufficientStorageSpace", "no lack of CPU or memory"},
		"no class, and a localized text": {alarm.ClassPowerOnFailed, vm + `{"fault": {}, "localizedMessage": "Insufficient resources to satisfy configured failover level."}}`, "", "does not say"},
		"no host, as rules bar them":     {alarm.ClassPowerOnFailed, vm + `{"fault": {"_typeName": "NoCompatibleHost"}}}`, "NoCompatibleHost", "NoCompatibleHost"},
		"no reason at all":               {alarm.ClassPowerOnFailed, vm + `null}`, "", "does not say"},
		"HA, without a reason":           {alarm.ClassFailoverFailed, vm + `null}`, "", ""},
		"HA, for another reason":         {alarm.ClassFailoverFailed, vm + `{"fault": {"_typeName": "FileLocked"}}}`, "FileLocked", "FileLocked"},
		"DRS, with its reason as a text": {alarm.ClassNoResources, vm + `"no host has enough memory"}`, "", ""},
	} {
		e, err := alarm.Decode(alarm.Message{Type: string(c.class), Source: source, Data: []byte(c.data)})
		if err != nil || e.Shortage.VM.Value == "" || e.Shortage.Fault != c.fault {
			t.Errorf("%s: %+v, %v", name, e, err)
			continue
		}
		if why, ok := e.Shortage.OfResources(e.Class); ok != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %q, %v, want %q", name, why, ok, c.why)
		}
	}
	cluster := `{"key": 2, "computeResource": {"name": "a", "computeResource": {"type": "ClusterComputeResource", "value": "domain-c7"}}}`
	e, err := alarm.Decode(alarm.Message{Type: string(alarm.ClassFailoverShort), Source: source, Data: []byte(cluster)})
	about, _ := e.About()
	if why, ok := e.Shortage.OfResources(e.Class); err != nil || !ok || e.Shortage.Cluster.Value != "domain-c7" || about.Entity.Value != "domain-c7" {
		t.Errorf("HA, of the whole cluster: %+v, %v, %q", e, err, why)
	}
	if _, err := alarm.Decode(alarm.Message{Type: string(alarm.ClassFailoverShort), Source: source, Data: []byte(`{"key": 2}`)}); err == nil {
		t.Error("HA, of no cluster, is taken")
	}
	long := vm + `{"fault": {"_typeName": "` + strings.Repeat("x", 200) + `"}}}`
	if _, err := alarm.Decode(alarm.Message{Type: string(alarm.ClassPowerOnFailed), Source: source, Data: []byte(long)}); err == nil {
		t.Error("a fault of 200 bytes is taken")
	}
}
