package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// frontend is as much of Temporal's frontend as the receiver calls.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer
	gate chan struct{} // where set, each signal waits for it

	mu  sync.Mutex
	got []*workflowservice.SignalWithStartWorkflowExecutionRequest
}

func (*frontend) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{}}, nil
}

func (f *frontend) SignalWithStartWorkflowExecution(_ context.Context, req *workflowservice.SignalWithStartWorkflowExecutionRequest) (*workflowservice.SignalWithStartWorkflowExecutionResponse, error) {
	f.mu.Lock()
	f.got = append(f.got[max(0, len(f.got)-1):], req) // the last two: the test measures the receiver's memory, not ours
	f.mu.Unlock()
	if f.gate != nil {
		<-f.gate
	}
	return &workflowservice.SignalWithStartWorkflowExecutionResponse{RunId: "run"}, nil
}

func (f *frontend) last() *workflowservice.SignalWithStartWorkflowExecutionRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.got) == 0 {
		return nil
	}
	return f.got[len(f.got)-1]
}

// serve answers on addr, where a port of 0 means any, until stop.
func (f *frontend) serve(t *testing.T, addr string) (at string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(s, f)
	h := health.NewServer()
	h.SetServingStatus("temporal.api.workflowservice.v1.WorkflowService", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s, h)
	go func() { _ = s.Serve(listener) }() // ends with stop
	t.Cleanup(s.Stop)
	return listener.Addr().String(), s.Stop
}

// until asks for readiness until it has the code.
func until(t *testing.T, url string, code int) {
	t.Helper()
	for range 1000 {
		if got, _ := ask(t, "GET", url+"/readyz", nil); got == code {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("/readyz does not come to %d", code)
}

func documented(t *testing.T) []byte {
	t.Helper()
	event, err := os.ReadFile("../../testdata/alarm-green-to-red-host1.structured.json")
	if err != nil {
		t.Fatal(err)
	}
	return event
}

func TestAReceiverFollowsTemporalWithoutARestart(t *testing.T) {
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := reserved.Addr().String()
	reserved.Close()
	_, url, stderr := start(t, "TEMPORAL_URL="+addr, "K_SINK=http://broker.example.com/replies")
	until(t, url, 503)
	f := &frontend{}
	_, stop := f.serve(t, addr)
	until(t, url, 200)
	code, body := ask(t, "POST", url, bytes.NewReader(documented(t)), "Accept", "*/*")
	if code != 202 || !strings.Contains(body, `"workflowID":"cluster-cpu-above-80@domain-c7@q"`) {
		t.Errorf("the alarm: %d %s\n%s", code, body, stderr)
	}
	got := f.last()
	if got == nil {
		t.Fatal("Temporal got nothing")
	}
	payload := string(got.GetSignalInput().GetPayloads()[0].GetData())
	if got.GetWorkflowId() != "cluster-cpu-above-80@domain-c7@q" || got.GetSignalName() != "AlarmChanged" || got.GetTaskQueue().GetName() != "q" ||
		!strings.Contains(payload, `"replyTo":"http://broker.example.com/replies"`) || !strings.Contains(payload, `"tag":"preemptible"`) {
		t.Errorf("Temporal got %v", got)
	}
	stop()
	until(t, url, 503)
	f.serve(t, addr)
	until(t, url, 200)
}

func TestASignalLetsRequestsInFlightFinish(t *testing.T) {
	f := &frontend{gate: make(chan struct{})}
	addr, _ := f.serve(t, "127.0.0.1:0")
	cmd, url, stderr := start(t, "TEMPORAL_URL="+addr)
	answer := make(chan int)
	go func() {
		code, _ := ask(t, "POST", url, bytes.NewReader(documented(t)))
		answer <- code
	}()
	for f.last() == nil {
		time.Sleep(time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(stderr.String(), "requests in flight may finish") {
		time.Sleep(time.Millisecond)
	}
	close(f.gate)
	if code := <-answer; code != 202 {
		t.Errorf("the event in flight: %d", code)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it must end with 0: %v\n%s", err, stderr)
	}
}

func TestMemoryStaysBoundedUnderLoad(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Logf("resident memory is not known here: %v", err)
		return
	}
	addr, _ := (&frontend{}).serve(t, "127.0.0.1:0")
	cmd, url, _ := start(t, "TEMPORAL_URL="+addr)
	until(t, url, 200)
	t.Logf("idle: %.1f MiB", resident(t, cmd.Process.Pid, "VmRSS"))
	small := documented(t)
	middle := append(bytes.Clone(small), bytes.Repeat([]byte(" "), 15<<10)...)
	large := append(bytes.Clone(small), bytes.Repeat([]byte(" "), 1<<20-len(small))...)
	filled := bytes.Replace(small, []byte(`"data": {`), fmt.Appendf(nil, `"data": { "Filler": %q,`, strings.Repeat("x", 500<<10)), 1)
	codes := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 12 {
				body := [][]byte{small, middle, large, filled}[(i+j)%4]
				code, _ := ask(t, "POST", url, bytes.NewReader(body), "Content-Type", "application/cloudevents+json")
				mu.Lock()
				codes[code]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	peak := resident(t, cmd.Process.Pid, "VmHWM")
	t.Logf("loaded: %.1f MiB, at most %.1f MiB; answers %v", resident(t, cmd.Process.Pid, "VmRSS"), peak, codes)
	if peak > 48 {
		t.Errorf("it took %.1f MiB; the limit is 48", peak)
	}
}

// resident reads a figure of /proc in MiB.
func resident(t *testing.T, pid int, field string) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), field+":")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return float64(kib) / 1024
}
