package round

import (
	"context"
	"sync"
)

// sendSideBySide is how many parts of a round check and send at once on one worker. While these do, others are waited for
// and annotated; so parts end one after the other, and the next begin meanwhile.
const sendSideBySide = 2

// turns let the parts of each round that one worker has in hand check and send in the order in which they came.
type turns struct {
	mu sync.Mutex
	of map[string]*turn // by round
}

// turn is the turns of one round.
type turn struct {
	places chan struct{}
	parts  int // in hand
}

// join is called once for each part, and leave when the part has ended.
func (t *turns) join(roundID string) (own *turn, leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*turn{}
	}
	own = t.of[roundID]
	if own == nil {
		own = &turn{places: make(chan struct{}, sendSideBySide)}
		t.of[roundID] = own
	}
	own.parts++
	return own, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.parts--; own.parts == 0 {
			delete(t.of, roundID)
		}
	}
}

// begin waits for a part's turn. The returned function ends it, and may be called again.
func (t *turn) begin(ctx context.Context) (end func(), err error) {
	select {
	case t.places <- struct{}{}:
		return sync.OnceFunc(func() { <-t.places }), nil
	case <-ctx.Done():
		return func() {}, context.Cause(ctx)
	}
}
