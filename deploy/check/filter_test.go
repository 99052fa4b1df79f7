package check

import (
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.uber.org/zap"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/eventfilter"
	"knative.dev/eventing/pkg/eventfilter/subscriptionsapi"
)

// The filters run here are those that Knative's brokers run.
func TestTheTriggerBringsAlarmEventsInEveryDressAndNothingElse(t *testing.T) {
	spec := the[*eventingv1.Trigger](t, knative).Spec
	if spec.Broker != "default" || spec.Filter != nil {
		t.Errorf("broker %q, filter of the old form %v", spec.Broker, spec.Filter)
	}
	if r := spec.Subscriber.Ref; r == nil || r.APIVersion != "serving.knative.dev/v1" || r.Kind != "Service" || r.Name != receiver {
		t.Errorf("subscriber %+v", r)
	}
	filter := subscriptionsapi.CreateSubscriptionsAPIFilters(zap.NewNop(), spec.Filters)
	for name, tc := range map[string]struct {
		kind, subject string
		want          eventfilter.FilterResult
	}{
		"VMware Event Router":                         {"com.vmware.event.router/event", "AlarmStatusChangedEvent", eventfilter.PassFilter},
		"VSphereSource":                               {"com.vmware.vsphere.AlarmStatusChangedEvent.v0", "", eventfilter.PassFilter},
		"vsphere-event-streaming":                     {"vmware.vsphere.AlarmStatusChangedEvent.v0", "", eventfilter.PassFilter},
		"alarm server behind VSphereSource":           {"com.vmware.vsphere.AlarmStatusChangedEvent.v0.AlarmInfo", "", eventfilter.PassFilter},
		"alarm server behind streaming":               {"vmware.vsphere.AlarmStatusChangedEvent.v0.AlarmInfo", "", eventfilter.PassFilter},
		"alarm server, a suffix right after":          {"com.vmware.vsphere.AlarmStatusChangedEvent.AlarmInfo", "", eventfilter.PassFilter},
		"alarm server behind the event router":        {"com.vmware.event.router/event.AlarmInfo", "", eventfilter.PassFilter},
		"hand-made":                                   {"AlarmStatusChangedEvent", "", eventfilter.PassFilter},
		"another class of the event router":           {"com.vmware.event.router/event", "VmPoweredOffEvent", eventfilter.FailFilter},
		"the event router without a subject":          {"com.vmware.event.router/event", "", eventfilter.FailFilter},
		"another class of VSphereSource":              {"com.vmware.vsphere.VmPoweredOffEvent.v0", "", eventfilter.FailFilter},
		"a class whose name only begins so":           {"com.vmware.vsphere.AlarmStatusChangedEventEx.v0", "", eventfilter.FailFilter},
		"another class of streaming":                  {"vmware.vsphere.UserLoginSessionEvent.v0", "", eventfilter.FailFilter},
		"our own reply, which goes to the broker":     {"com.vmware.workflows.vsphere.VmPreemptedEvent.v0", "", eventfilter.FailFilter},
		"somebody else's event with such a subject":   {"dev.knative.sources.ping", "AlarmStatusChangedEvent", eventfilter.FailFilter},
		"an event about alarms that changed no state": {"com.vmware.vsphere.AlarmCreatedEvent.v0", "", eventfilter.FailFilter},
	} {
		t.Run(name, func(t *testing.T) {
			e := event.New()
			e.SetID("1")
			e.SetSource("https://vcenter.example.com/sdk")
			e.SetType(tc.kind)
			if tc.subject != "" {
				e.SetSubject(tc.subject)
			}
			if got := filter.Filter(t.Context(), e); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
