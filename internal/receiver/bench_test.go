package receiver

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const clients = 8

// BenchmarkFiltered measures events of a class that no rule is on, from 8 clients over real connections.
// The clients share the processor with the receiver.
func BenchmarkFiltered(b *testing.B) {
	_, part := documented(b)
	b.Run("binary", func(b *testing.B) {
		load(b, request(b, binaryHeader("Ce-Subject", "VmPoweredOnEvent"), part), "200")
	})
	b.Run("structured", func(b *testing.B) {
		body := fmt.Appendf(nil, `{"specversion":"1.0","id":"1","source":"https://vc/sdk","type":"com.vmware.event.router/event","subject":"VmPoweredOnEvent","data":%s}`, part)
		load(b, request(b, http.Header{"Content-Type": {structuredType}}, body), "200")
	})
}

// BenchmarkActed measures alarm events as far as the engine, which answers at once.
func BenchmarkActed(b *testing.B) {
	_, part := documented(b)
	load(b, request(b, binaryHeader(), part), "202")
}

func request(b *testing.B, h http.Header, body []byte) []byte {
	b.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://receiver/", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header = h
	var out bytes.Buffer
	if err := req.Write(&out); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

func load(b *testing.B, request []byte, status string) {
	s := listen(b, Config{Engine: engineOf{}, MaxWait: time.Minute})
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, clients)
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range clients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for left.Add(-1) >= 0 {
				start := time.Now()
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				if !answered(b, in, status) {
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	}
}

func answered(b *testing.B, in *bufio.Reader, status string) bool {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		b.Error(err)
		return false
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Status[:3] != status {
		b.Errorf("got %s, %v", resp.Status, err)
		return false
	}
	return true
}
