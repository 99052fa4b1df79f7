package intake

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

func TestACompletedIntakeIsListedWithTheAlarmThatItWasFor(t *testing.T) {
	for name, c := range map[string]struct {
		version      workflow.Version
		alarm, scope string
	}{
		"now":                             {1, "cpu", vcentertest.Cluster.String()},
		"by a history of an older worker": {workflow.DefaultVersion, "", ""},
	} {
		r := newIntakeRun(t)
		memo := map[string]any{}
		r.OnUpsertMemo(mock.Anything).Run(func(args mock.Arguments) { maps.Copy(memo, args.Get(0).(map[string]any)) }).Return(nil)
		r.OnGetVersion(versionNamed, workflow.DefaultVersion, workflow.Version(1)).Return(c.version)
		r.OnGetVersion(mock.Anything, workflow.DefaultVersion, workflow.Version(1)).Return(workflow.Version(1))
		r.alarm(0, "host-1", alarm.Red, "default")
		r.done(time.Second, nil)
		r.alarm(time.Minute, "host-1", alarm.Green, "default")
		if r.run(Input{}); memo["state"] != "completed" || memo["alarm"] != c.alarm || memo["scope"] != c.scope {
			t.Errorf("%s: %v, want alarm %q in %q", name, memo, c.alarm, c.scope)
		}
	}
}
