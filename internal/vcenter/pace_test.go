package vcenter

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestARefusalForRateIsHeeded(t *testing.T) {
	o := small()
	o.ExtraTags = 60
	v := simulated(t, o)
	var log logBuffer
	g := gateway(t, v, func(c *Config) { c.Logger = log.logger() })
	v.LimitTagging(20, 2*time.Second)
	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	if len(snapshot.VMs) != 3 {
		t.Errorf("%d VMs", len(snapshot.VMs))
	}
	if v.Calls()["HTTP 429"] == 0 {
		t.Error("vCenter refused no call: the test shows nothing")
	}
	if !strings.Contains(log.String(), "too fast") {
		t.Error("the log does not say that vCenter refuses calls for their rate")
	}
	if _, err := g.LastContact(); err != nil {
		t.Errorf("vCenter counts as away: %v", err)
	}
}

func TestARefusalThatDoesNotEndIsToldInTheEnd(t *testing.T) {
	v, g := warm(t, small())
	v.FailREST("REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=list-attached-objects", 429, -1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := g.Candidates(ctx, "preemptible", Scope{})
	if err == nil {
		t.Fatal("no error")
	}
	if n := v.Calls()["REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=list-attached-objects"]; n < 2 || n > 8 {
		t.Errorf("asked %d times in 2 seconds", n)
	}
}

func TestAQualifiedTagTakesItsCategoryAlone(t *testing.T) {
	o := small()
	o.ExtraTags = 60
	v := simulated(t, o)
	g := gateway(t, v, func(c *Config) { c.Tags = []string{"preemption:preemptible"} })
	check(t, g.Connect(t.Context()))
	snapshot, err := g.Candidates(t.Context(), "preemption:preemptible", Scope{Detail: true})
	check(t, err)
	check(t, g.revalidateTags(t.Context()))
	if len(snapshot.VMs) != 3 {
		t.Errorf("%d VMs", len(snapshot.VMs))
	}
	if n := v.Calls()["REST GET /com/vmware/cis/tagging/tag/{id}"]; n > 5 {
		t.Errorf("%d of 61 tags read: %v", n, v.Calls())
	}
}

func TestThePlainNameIsFoundWhateverWasReadBefore(t *testing.T) {
	v := simulated(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 2, Tagged: 1, ExtraTags: 5})
	g := gateway(t, v, func(c *Config) { c.Tags = []string{"preemption:preemptible"} })
	check(t, g.Connect(t.Context()))
	for _, name := range []string{"preemption:preemptible", "unrelated-003", "preemptible"} {
		_, err := g.Candidates(t.Context(), name, Scope{})
		check(t, err)
	}
}
