package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// policiesView is the page of rules and policies.
type policiesView struct {
	Worker *Rules   `json:"worker,omitempty"` // nil: this program is not a worker
	Used   []Policy `json:"used"`             // by rounds that are kept, the last used first
}

func (c *Console) policiesPage(ctx context.Context, _ *http.Request) (look, error) {
	v := policiesView{Used: []Policy{}}
	if c.cfg.Rules != nil {
		rules := c.cfg.Rules()
		v.Worker = &rules
	}
	for _, u := range c.cfg.Record.Policies(ctx) {
		p := PolicyOf(u.Name, u.Policy)
		p.Hash, p.By, p.At, p.Error = u.Hash, u.By, u.At, u.Error
		if u.Error != "" {
			p.Settings = []Setting{}
		}
		v.Used = append(v.Used, p)
	}
	return look{title: "Rules and policies", nav: "policies", name: "policies.html", data: v}, nil
}

// healthView is the page of how well everything works.
type healthView struct {
	At      time.Time      `json:"at,omitzero"`
	Report  *health.Report `json:"report,omitempty"` // nil: it could not be read
	Error   string         `json:"error,omitempty"`
	Doctor  *doctorView    `json:"doctor,omitempty"` // nil: no diagnosis is kept
	Workers record.Workers `json:"workers"`
	Watch   record.Watch   `json:"watch"`
	Ages    []age          `json:"ages"`
	Reach   record.Reach   `json:"reach"`
}

// doctorView is the last diagnosis that a worker made.
type doctorView struct {
	doctorapi.Result
	At time.Time `json:"at"`
}

// age is how old one part of what is shown is.
type age struct {
	Part string    `json:"part"`
	At   time.Time `json:"at,omitzero"`
}

// healthEvery is how often the workflows are examined while somebody looks.
const healthEvery = 10 * time.Second

func (c *Console) healthPage(ctx context.Context, _ *http.Request) (look, error) {
	now, _ := c.state(ctx) // a banner says why it is old
	v := c.examined(ctx)
	v.Workers, v.Watch, v.Reach = now.Workers, now.Watch, now.Reach
	v.Ages = []age{
		{"work under way", now.OpenAt}, {"workers", now.Workers.At}, {"ledger", now.Ledger.At}, {"watch", now.Watch.At}, {"what has ended", now.Reach.At}, {"progress of workflows", v.At},
	}
	l := look{title: "Health", nav: "health", live: true, name: "health.html", data: v}
	if v.Report != nil && !v.Report.Healthy() {
		l.lines = append(l.lines, fmt.Sprintf("%d workflows make no progress.", len(v.Report.Stalled)))
	}
	return l, nil
}

// examined examines the workflows, unless that was done a moment ago.
func (c *Console) examined(ctx context.Context) healthView {
	c.examining.Lock()
	defer c.examining.Unlock()
	if c.cfg.Clock().Sub(c.looked.At) < healthEvery {
		return c.looked
	}
	v := healthView{At: c.cfg.Clock().UTC()}
	report, err := c.health.Look(ctx)
	if err != nil {
		v.Error = "it cannot be looked whether workflows make progress: " + err.Error()
	} else {
		v.Report = &report
	}
	result, at, err := c.cfg.Record.LastDiagnosis(ctx)
	switch {
	case errors.Is(err, record.ErrNone):
	case err != nil:
		v.Error = "the last diagnosis cannot be read: " + err.Error()
	default:
		v.Doctor = &doctorView{Result: result, At: at}
	}
	c.looked = v
	return v
}
