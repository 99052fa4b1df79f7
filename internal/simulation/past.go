package simulation

import (
	"reflect"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// AgeEvents lets the VM's events of the class of like have happened that much earlier, and returns how many there are.
func (v *VCenter) AgeEvents(vm types.ManagedObjectReference, like types.BaseEvent, by time.Duration) (n int) {
	v.recordEvents()
	v.history.mu.Lock()
	defer v.history.mu.Unlock()
	for i, event := range v.history.events {
		e := event.GetEvent()
		if reflect.TypeOf(event) != reflect.TypeOf(like) || e.Vm == nil || e.Vm.Vm != vm {
			continue
		}
		aged := reflect.New(reflect.TypeOf(event).Elem()) // a copy: an answer under way may hold the event
		aged.Elem().Set(reflect.ValueOf(event).Elem())
		event = aged.Interface().(types.BaseEvent)
		event.GetEvent().CreatedTime = e.CreatedTime.Add(-by)
		v.history.events[i] = event
		n++
	}
	return n
}

// FillHistory puts n events that made makes into the history, spread evenly over the time before now, as others leave
// them behind on a busy site. Their keys are negative.
func (v *VCenter) FillHistory(n int, over time.Duration, made func(i int) types.BaseEvent) {
	v.recordEvents()
	now := time.Now().UTC()
	v.history.mu.Lock()
	defer v.history.mu.Unlock()
	v.history.more += n
	for i := range n {
		event := made(i)
		e := event.GetEvent()
		e.Key, e.CreatedTime = int32(i-n), now.Add(-over*time.Duration(n-i)/time.Duration(n))
		v.history.events = append(v.history.events, event)
	}
}
