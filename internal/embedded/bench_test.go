package embedded

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
)

// BenchmarkStartToDone measures a workflow of one activity, from its start to its result, without and with another
// number of history shards. It reports medians, which a busy machine disturbs less than means.
func BenchmarkStartToDone(b *testing.B) {
	for _, store := range []string{"memory", "file"} {
		for _, shards := range []int32{1, 4} {
			b.Run(store+"/shards="+strconv.Itoa(int(shards)), func(b *testing.B) {
				o := Options{InMemory: store == "memory", Dir: b.TempDir()}
				began := time.Now()
				s, err := start(b.Context(), o, shards)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(s.Stop)
				c := dial(b, s)
				startWorker(b, c)
				mustEcho(b, c, client.StartWorkflowOptions{})
				first := time.Since(began)
				took := echoes(b, c)
				b.ReportMetric(milliseconds(first), "first-ms")
				b.ReportMetric(milliseconds(took[len(took)/2]), "median-ms")
				b.ReportMetric(milliseconds(took[len(took)-1]), "max-ms")
			})
		}
	}
}

// echoes are the sorted times of the workflows of one benchmark.
func echoes(b *testing.B, c client.Client) (took []time.Duration) {
	for b.Loop() {
		began := time.Now()
		mustEcho(b, c, client.StartWorkflowOptions{})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
