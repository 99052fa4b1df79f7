package otlp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
)

// ids draws the ids of spans, or derives them where a step says who it is: another worker that runs it again makes the same
// span, and what was done below it before stays below it.
type ids struct{}

// NewIDs implements sdktrace.IDGenerator.
func (g ids) NewIDs(ctx context.Context) (id trace.TraceID, span trace.SpanID) {
	if key := tracing.Identity(ctx); key != "" {
		sum := sha256.Sum256([]byte("trace\x00" + key))
		copy(id[:], sum[:])
	}
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:8], rand.Uint64())
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (ids) NewSpanID(ctx context.Context, of trace.TraceID) (id trace.SpanID) {
	if key := tracing.Identity(ctx); key != "" {
		sum := sha256.Sum256([]byte(of.String() + "\x00" + key))
		copy(id[:], sum[:])
	}
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}
