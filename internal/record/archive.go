package record

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// Reach says how far the record goes.
type Reach struct {
	Since     time.Time     `json:"since,omitzero"`   // what has ended since then was read
	At        time.Time     `json:"at,omitzero"`      // when the list of what has ended was last read
	Retention time.Duration `json:"retention"`        // nanoseconds; how long Temporal keeps what has ended; 0: unknown
	Entries   int           `json:"entries"`          // that are kept here
	Bytes     int           `json:"bytes"`            // that they take, as estimated
	Complete  bool          `json:"complete"`         // all that was asked for was read
	Cut       string        `json:"cut,omitempty"`    // why not
	Full      bool          `json:"full,omitempty"`   // there is no room for older ones
	Unread    int           `json:"unread,omitempty"` // entries whose result cannot be read
}

// archive is what has ended, and was read. Its lock is held only while memory is touched.
type archive struct {
	mu        sync.Mutex
	entries   []Entry // newest end first
	known     map[string]bool
	bytes     int
	from      time.Time // all that ended since then is in entries; zero: nothing was read
	newest    time.Time // the newest end
	at        time.Time // of the last list
	full      bool      // older ones were dropped for want of room
	retention time.Duration
	retainAt  time.Time
}

const (
	pageSize     = 200
	lag          = 2 * time.Minute // by which visibility may be behind
	skew         = time.Hour       // between our clock and the server's
	retentionFor = 10 * time.Minute
)

// extend reads what has ended since the last time, and older work back to since. It keeps what it has read if ctx ends.
func (r *Reader) extend(ctx context.Context, since time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if since.IsZero() {
		since = time.Unix(0, 0) // all there is; the zero time stands for nothing read
	}
	r.readRetention(ctx)
	from, newest, full := r.closed.bounds()
	begun := r.now()
	if from.IsZero() {
		from = begun.Add(skew)
	} else if err := r.catchUp(ctx, newest); err != nil {
		return err
	}
	r.closed.listed(begun)
	if !since.Before(from) || full {
		return nil
	}
	return r.goBack(ctx, since, from)
}

// ofClosed is the query of what ended at a time or later.
func ofClosed(since time.Time) string {
	return fmt.Sprintf("ExecutionStatus != 'Running' AND WorkflowType IN (%s) AND CloseTime >= '%s'", types(), since.UTC().Format(time.RFC3339Nano))
}

// catchUp reads what ended since the newest that is known.
func (r *Reader) catchUp(ctx context.Context, newest time.Time) error {
	var token []byte
	for {
		infos, next, err := r.page(ctx, ofClosed(newest.Add(-lag)), pageSize, token)
		if err != nil {
			return err
		}
		if _, err := r.take(ctx, infos); err != nil || len(next) == 0 {
			return err
		}
		token = next
	}
}

// goBack reads what ended between two times, the newest first as Temporal lists it, and notes after each page how far it has come.
func (r *Reader) goBack(ctx context.Context, since, from time.Time) error {
	query := ofClosed(since) + fmt.Sprintf(" AND CloseTime <= '%s'", from.UTC().Format(time.RFC3339Nano))
	var token []byte
	for {
		infos, next, err := r.page(ctx, query, pageSize, token)
		if err != nil {
			return err
		}
		oldest, err := r.take(ctx, infos)
		if err != nil {
			return err
		}
		if len(next) == 0 {
			oldest = since
		}
		if full := r.closed.reached(oldest); full || len(next) == 0 {
			return nil
		}
		token = next
	}
}

// bounds returns down to where, and up to where, all that has ended is known, and whether there is no room for more.
func (a *archive) bounds() (from, newest time.Time, full bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if newest = a.newest; newest.IsZero() {
		newest = a.at.Add(-skew)
	}
	return a.from, newest, a.full
}

// listed notes when what has ended was last listed.
func (a *archive) listed(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = at
}

// reached notes that all that ended since a time is known, and reports whether there is no room for more.
func (a *archive) reached(oldest time.Time) (full bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.full {
		a.from = oldest
	}
	return a.full
}

// take reads the results of workflows that are not known yet, and returns the oldest end.
func (r *Reader) take(ctx context.Context, infos []*workflowpb.WorkflowExecutionInfo) (oldest time.Time, err error) {
	fresh := r.closed.unknown(infos)
	found := make([]Entry, len(fresh))
	deleted := make([]bool, len(fresh))
	err = r.each(len(fresh), func(i int) error {
		found[i] = r.shell(fresh[i])
		err := r.fill(ctx, &found[i], fresh[i].GetType().GetName())
		if deleted[i] = gone(err); deleted[i] {
			return nil
		}
		return err
	})
	if err != nil {
		return oldest, fmt.Errorf("read what has ended: %w", err)
	}
	for _, info := range infos {
		if t := info.GetCloseTime().AsTime(); oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	kept := found[:0]
	for i, e := range found {
		if !deleted[i] {
			kept = append(kept, e)
		}
	}
	l := r.limits()
	r.closed.put(kept, l.Entries, l.Bytes)
	return oldest, nil
}

// unknown returns those workflows that are part of the record and were not read. A run that continued as another has no
// result of its own; a dry run did nothing.
func (a *archive) unknown(infos []*workflowpb.WorkflowExecutionInfo) (fresh []*workflowpb.WorkflowExecutionInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, info := range infos {
		continued := info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
		dry := strings.HasPrefix(info.GetExecution().GetWorkflowId(), dryRestore)
		if !continued && !dry && !a.known[info.GetExecution().GetRunId()] {
			fresh = append(fresh, info)
		}
	}
	return fresh
}

// dryRestore begins the ids of restores that are only planned.
const dryRestore = "restore-plan-"

// put adds entries, and drops the oldest where there is no room.
func (a *archive) put(found []Entry, most, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = map[string]bool{}
	}
	all := slices.Clone(a.entries) // readers have the other
	for _, e := range found {
		all = append(all, e)
		a.known[e.RunID] = true
		a.bytes += e.size()
		if e.EndedAt.After(a.newest) {
			a.newest = e.EndedAt
		}
	}
	slices.SortStableFunc(all, func(x, y Entry) int {
		return cmp.Or(y.EndedAt.Compare(x.EndedAt), y.StartedAt.Compare(x.StartedAt), strings.Compare(x.RunID, y.RunID))
	})
	for len(all) > 0 && (len(all) > most || a.bytes > bytes) {
		last := all[len(all)-1]
		all, a.full, a.from = all[:len(all)-1], true, last.EndedAt.Add(1)
		a.forget(last)
	}
	a.entries = all
}

func (a *archive) forget(e Entry) {
	delete(a.known, e.RunID)
	a.bytes -= e.size()
}

// size estimates the bytes that an entry takes.
func (e *Entry) size() int {
	n := 800 + len(e.Reason) + len(e.Error) + len(e.Usage)*250
	for _, v := range e.VMs {
		n += 360 + len(v.Name) + len(v.Reason) + len(v.Why) + len(v.Notice) + len(v.AnnotationError)
	}
	return n
}

// readRetention asks how long Temporal keeps what has ended, now and then, and drops what it keeps no longer.
func (r *Reader) readRetention(ctx context.Context) {
	a := &r.closed
	now := r.now()
	a.mu.Lock()
	fresh := now.Sub(a.retainAt) < retentionFor
	a.mu.Unlock()
	if fresh {
		return
	}
	d, err := r.Client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: r.Namespace})
	if err != nil {
		return // unknown, which Reach says; the list fails for the same reason where Temporal is away
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retention, a.retainAt = d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(), now
	if a.retention <= 0 {
		return
	}
	kept := len(a.entries)
	for kept > 0 && now.Sub(a.entries[kept-1].EndedAt) > a.retention {
		kept--
		a.forget(a.entries[kept])
	}
	a.entries = a.entries[:kept:kept]
}

// ended returns what has ended and was read, newest first, and how far that goes back.
func (r *Reader) ended(since time.Time) ([]Entry, Reach) {
	a := &r.closed
	a.mu.Lock()
	defer a.mu.Unlock()
	reach := Reach{Since: a.from, At: a.at, Retention: a.retention, Entries: len(a.entries), Bytes: a.bytes, Full: a.full}
	for _, e := range a.entries {
		if e.Error != "" {
			reach.Unread++
		}
	}
	if kept := r.now().Add(-a.retention); a.retention > 0 && reach.Since.Before(kept) && !reach.Since.IsZero() {
		reach.Since = kept // nothing older is there to be read
	}
	oldest := since
	if a.retention > 0 && r.now().Add(-a.retention-lag).After(since) {
		oldest = r.now().Add(-a.retention)
		reach.Cut = "Temporal keeps what has ended for " + days(a.retention)
	}
	switch {
	case a.from.IsZero():
		reach.Cut = "nothing was read yet"
	case a.full && a.from.After(oldest):
		reach.Cut = fmt.Sprintf("only the last %d are kept in memory", len(a.entries))
	case a.from.After(oldest):
		reach.Cut = "older work is still being read"
	}
	reach.Complete = reach.Cut == ""
	return a.entries, reach
}

// days writes a retention.
func days(d time.Duration) string {
	if d >= 48*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}
