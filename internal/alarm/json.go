package alarm

import "time"

// moref is a managed object reference; encoding/json matches its keys in either case.
type moref struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// data is an AlarmStatusChangedEvent; encoding/json matches PascalCase and camelCase keys alike.
type data struct {
	Key             int64     `json:"key"`
	CreatedTime     time.Time `json:"createdTime"`
	ComputeResource *struct {
		Name            string `json:"name"`
		ComputeResource moref  `json:"computeResource"`
	} `json:"computeResource"`
	Host *struct {
		Name string `json:"name"`
		Host moref  `json:"host"`
	} `json:"host"`
	VM *struct {
		Name string `json:"name"`
		VM   moref  `json:"vm"`
	} `json:"vm"`
	Ds *struct {
		Name      string `json:"name"`
		Datastore moref  `json:"datastore"`
	} `json:"ds"`
	Alarm struct {
		Name  string `json:"name"`
		Alarm moref  `json:"alarm"`
	} `json:"alarm"`
	Source entity `json:"source"`
	Entity entity `json:"entity"`
	From   string `json:"from"`
	To     string `json:"to"`
}

type entity struct {
	Name   string `json:"name"`
	Entity moref  `json:"entity"`
}

func object(name string, ref moref) Object {
	return Object{Type: ref.Type, Value: ref.Value, Name: name}
}

func (d data) alarm() Alarm {
	a := Alarm{
		Name:     d.Alarm.Name,
		Ref:      object(d.Alarm.Name, d.Alarm.Alarm),
		Entity:   object(d.Entity.Name, d.Entity.Entity),
		Source:   object(d.Source.Name, d.Source.Entity),
		From:     d.From,
		To:       d.To,
		EventKey: d.Key,
		Time:     d.CreatedTime,
	}
	if d.ComputeResource != nil {
		a.Cluster = object(d.ComputeResource.Name, d.ComputeResource.ComputeResource)
	}
	if d.Host != nil {
		a.Host = object(d.Host.Name, d.Host.Host)
	}
	if d.VM != nil {
		a.VM = object(d.VM.Name, d.VM.VM)
	}
	if d.Ds != nil {
		a.Datastore = object(d.Ds.Name, d.Ds.Datastore)
	}
	return a
}
