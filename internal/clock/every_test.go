package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestEveryCallsAtTheIntervalUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		stop := Every(time.Minute, func() { calls++ })
		time.Sleep(3*time.Minute + time.Second)
		stop()
		time.Sleep(time.Hour)
		if calls != 3 {
			t.Errorf("%d calls in three minutes, want 3", calls)
		}
	})
}
