package console

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/judge"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// What is asked of workers about a VM while somebody looks at its page. Each answer costs a plan.
const (
	answerFresh  = time.Minute             // so long an answer is shown before the next is asked for
	answerLimit  = 25 * time.Second        // so long an answer may take
	answerWait   = 2500 * time.Millisecond // so long a page waits for the first
	mostAnswers  = 200                     // that are kept
	mostUnderWay = 2                       // questions at a time
)

// answer is what a worker said of a VM.
type answer struct {
	AskedAt   time.Time           `json:"askedAt"`
	Verdict   *judge.Verdict      `json:"verdict,omitempty"`
	Error     string              `json:"error,omitempty"` // why there is no verdict
	Power     string              `json:"power,omitempty"`
	Tags      map[string][]string `json:"tags,omitempty"` // by category
	TagsError string              `json:"tagsError,omitempty"`

	vm      vsphere.Ref
	unknown error // vCenter knows no such VM, or several
}

// questions asks workers about VMs, each at most once in answerFresh, and keeps the answers.
type questions struct {
	asker judge.Asker
	clock func() time.Time

	mu       sync.Mutex
	kept     map[string]*question
	underWay int
}

// question is a VM that was asked about.
type question struct {
	last  *answer       // nil: none yet
	since time.Time     // when it was asked about last
	done  chan struct{} // closed when the question under way is answered; nil: none is
}

// about returns the last answer about a VM, nil where there is none yet, and asks anew where that is old. The first answer is
// waited for a moment. vm is zero where only its name is known.
func (q *questions) about(ctx context.Context, named string, vm vsphere.Ref, entries []record.Entry) *answer {
	q.mu.Lock()
	a := q.kept[named]
	if a == nil {
		a = &question{}
		q.keep(named, a)
	}
	if a.done == nil && q.clock().Sub(a.since) >= answerFresh && q.underWay < mostUnderWay {
		a.since, a.done = q.clock(), make(chan struct{})
		q.underWay++
		go q.ask(context.WithoutCancel(ctx), a, named, vm, entries)
	}
	last, done := a.last, a.done
	q.mu.Unlock()
	if last != nil || done == nil {
		return last
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(answerWait):
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return a.last
}

// keep adds a VM, and forgets the one that was asked about longest ago where they are too many.
func (q *questions) keep(named string, a *question) {
	if len(q.kept) >= mostAnswers {
		oldest := ""
		for name, b := range q.kept {
			if b.done == nil && (oldest == "" || b.since.Before(q.kept[oldest].since)) {
				oldest = name
			}
		}
		delete(q.kept, oldest)
	}
	q.kept[named] = a
}

func (q *questions) ask(ctx context.Context, a *question, named string, vm vsphere.Ref, entries []record.Entry) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	got := q.answer(ctx, named, vm, entries)
	q.mu.Lock()
	defer q.mu.Unlock()
	a.last = got
	close(a.done)
	a.done = nil
	q.underWay--
}

// answer asks what a plan like that of the last round makes of a VM, and which tags it has.
func (q *questions) answer(ctx context.Context, named string, vm vsphere.Ref, entries []record.Entry) *answer {
	out := &answer{AskedAt: q.clock().UTC(), vm: vm}
	if vm.Zero() {
		var err error
		if out.vm, err = q.asker.VM(ctx, named); err != nil {
			out.Error = err.Error()
			if errors.As(err, new(*judge.NotKnownError)) {
				out.unknown = err
			}
			return out
		}
	}
	req := preemption.WorkflowRequest{
		Tag: preemption.DefaultTag, Criticality: preemption.CriticalityLow, Origin: preemption.OriginPerson, TaskQueue: q.asker.TaskQueue,
	}
	if last, home := judge.LastRound(entries, "", out.vm); last != nil {
		judge.AskAs(&req, last)
		if !home { // where the VM runs is not known: everything tagged is planned for
			req.Cluster = ""
		}
	}
	v, err := judge.On(ctx, out.vm, req, q.asker.Plan)
	if err != nil {
		out.Error = err.Error()
	} else {
		out.Verdict = &v
	}
	tags, err := q.asker.Tags(ctx, out.vm)
	if err != nil {
		out.TagsError = err.Error()
		return out
	}
	out.Power, out.Tags = tags.Power, tags.AllTags
	return out
}

// fromElsewhere reports whether another site's page has the browser ask: it gets no worker to work.
func fromElsewhere(req *http.Request) bool {
	switch req.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return true
}
