package worker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// gateway answers each login with the next of its errors, and then lets in.
type gateway struct {
	fails []error
	last  time.Time
	tries int
}

func (g *gateway) Connect(context.Context) error {
	g.tries++
	if len(g.fails) == 0 {
		return nil
	}
	err := g.fails[0]
	g.fails = g.fails[1:]
	return err
}

func (g *gateway) LastContact() (time.Time, error) { return g.last, nil }

func TestVCenterIsSoughtUntilItAnswersAndEachReasonIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, denied := errors.New("away"), errors.New("denied")
		g := &gateway{fails: append(slices.Repeat([]error{away}, 10), denied)}
		var told []string
		began := time.Now()
		ok := SeekVCenter(t.Context(), g, func(reason string, _ time.Duration) { told = append(told, reason) })
		if !ok || !slices.Equal(told, []string{"away", "away", "denied"}) || g.tries != 12 {
			t.Errorf("connected %v after %s and %d tries, told %v", ok, time.Since(began), g.tries, told)
		}
	})
}

func TestNobodySeeksVCenterWhenTheWorkerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if SeekVCenter(ctx, &gateway{fails: slices.Repeat([]error{errors.New("away")}, 9)}, func(string, time.Duration) {}) {
			t.Error("it says that it is connected")
		}
	})
}

func TestVCenterIsAskedWhetherItIsReadyWhereNothingElseAskedLately(t *testing.T) {
	for name, c := range map[string]struct {
		last  time.Duration
		fails []error
		ready bool
		tries int
	}{
		"it answered a minute ago":             {time.Minute, []error{errors.New("away")}, true, 0},
		"it answered an hour ago":              {time.Hour, nil, true, 1},
		"it answered an hour ago, and not now": {time.Hour, []error{errors.New("away")}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gateway{fails: c.fails, last: time.Now().Add(-c.last)}
			if err := VCenterReady(g)(t.Context()); (err == nil) != c.ready || g.tries != c.tries {
				t.Errorf("%v after %d questions", err, g.tries)
			}
		})
	}
}
