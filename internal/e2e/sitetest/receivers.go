package sitetest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	ceclient "github.com/cloudevents/sdk-go/v2/client"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/protocol"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/receiver"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// Receiver serves the site's rules on a port of its own, and returns its address.
func (s *Site) Receiver(adapt ...func(*receiver.Config, *trigger.Engine)) (url string) {
	s.T.Helper()
	engine := &trigger.Engine{Temporal: s.Temporal, TaskQueue: s.Queue, Rules: s.Rules, Tracer: s.Traces.Tracer()}
	cfg := receiver.Config{Engine: engine, Classes: trigger.Classes(s.Rules), Log: s.Log, Tracer: s.Traces.Tracer()}
	for _, f := range adapt {
		f(&cfg, engine)
	}
	r, err := receiver.New(cfg)
	if err != nil {
		s.T.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.T.Fatal(err)
	}
	server := receiver.Server(r, s.Log)
	go func() { _ = server.Serve(listener) }() // ends with Close
	s.T.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}

// Routed is an event of vCenter as the event router wraps it, with an id drawn anew.
func Routed(t testing.TB, source string, ev types.AlarmStatusChangedEvent) event.Event {
	t.Helper()
	return Wrapped(t, source, "com.vmware.event.router/event", ev.CreatedTime, event.ApplicationJSON, ev)
}

// Sourced is an event of vCenter as Knative's vSphere source wraps it: in XML.
func Sourced(t testing.TB, source string, ev types.AlarmStatusChangedEvent) event.Event {
	t.Helper()
	text, err := xml.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	e := Wrapped(t, source, "com.vmware.vsphere."+string(alarm.ClassAlarm)+".v0", ev.CreatedTime, event.ApplicationXML, text)
	e.SetExtension("eventclass", "event")
	return e
}

// Wrapped is a CloudEvent of the given type around data, with an id drawn anew.
func Wrapped(t testing.TB, source, kind string, at time.Time, media string, data any) event.Event {
	t.Helper()
	e := event.New()
	e.SetID(fmt.Sprintf("drawn-%d", NextID.Add(1)))
	e.SetSource(source)
	e.SetType(kind)
	e.SetSubject(string(alarm.ClassAlarm))
	e.SetTime(at)
	if err := e.SetData(media, data); err != nil {
		t.Fatal(err)
	}
	return e
}

// Answer is what the receiver answers.
type Answer struct {
	Code                              int
	After                             string // when to come back
	Verdict, WorkflowID, What, Reason string
}

// Bring sends an event in structured mode and reads the whole answer.
func (s *Site) Bring(url string, e event.Event) (a Answer) {
	s.T.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		s.T.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.T.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		s.T.Fatal(err)
	}
	req.Header.Set("Content-Type", event.ApplicationCloudEventsJSON)
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.T.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		s.T.Fatal(err)
	}
	a.Code, a.After = resp.StatusCode, resp.Header.Get("Retry-After")
	return a
}

// BringAlarm posts a change of an alarm in vCenter and has the router bring it.
func (s *Site) BringAlarm(url, name, cluster string, host int, from, to string) {
	s.T.Helper()
	a := s.Bring(url, Routed(s.T, s.VC.URL(), s.Post(name, cluster, host, from, to)))
	if a.Code != http.StatusAccepted || a.WorkflowID != s.ID(s.Intake(name, cluster)) {
		s.T.Fatalf("%s from %s to %s on %s: %+v", name, from, to, cluster, a)
	}
}

// BySDK sends with the CloudEvents client, in binary mode unless told otherwise.
func BySDK(t *testing.T, url string, e event.Event, structured bool) int {
	t.Helper()
	ctx := t.Context()
	if structured {
		ctx = binding.WithForceStructured(ctx)
	}
	p, err := cehttp.New(cehttp.WithTarget(url))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ceclient.New(p)
	if err != nil {
		t.Fatal(err)
	}
	var res *cehttp.Result
	if sent := c.Send(ctx, e); !protocol.ResultAs(sent, &res) {
		t.Fatalf("the CloudEvents client says %v", sent)
	}
	return res.StatusCode
}

// ByCurl sends the event as a person does: with curl, or where the machine has none, with what curl would
// put on the wire.
func ByCurl(t *testing.T, url string, e event.Event) (code int) {
	t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if path, err := exec.LookPath("curl"); err == nil {
		cmd := exec.CommandContext(t.Context(), path, "-sS", "-o", os.DevNull, "-w", "%{http_code}",
			"-H", "Content-Type: application/cloudevents+json", "--data-binary", "@-", url)
		cmd.Stdin = bytes.NewReader(body)
		out, err := cmd.Output()
		if _, scanned := fmt.Sscan(string(out), &code); err != nil || scanned != nil {
			t.Fatalf("curl: %v: %s", err, out)
		}
		return code
	}
	host := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nContent-Type: application/cloudevents+json\r\nContent-Length: %d\r\n\r\n%s", host, len(body), body)
	if _, err := fmt.Fscanf(conn, "HTTP/1.1 %d", &code); err != nil {
		t.Fatal(err)
	}
	return code
}

// Gate is a way to Temporal that can be shut.
type Gate struct {
	Listener net.Listener
	mu       sync.Mutex
	shut     bool
	conns    []net.Conn
}

// NewGate opens a way to the shared server.
func NewGate(t testing.TB) *Gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{Listener: listener}
	t.Cleanup(func() { listener.Close(); g.Set(true) })
	go g.serve()
	return g
}

func (g *Gate) serve() {
	for {
		in, err := g.Listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", Shared.HostPort())
		if err != nil || !g.pass(in, out) {
			in.Close()
			continue
		}
		go func() { _, _ = io.Copy(out, in); out.Close() }()
		go func() { _, _ = io.Copy(in, out); in.Close() }()
	}
}

// pass keeps a pair of connections; false where the gate is shut.
func (g *Gate) pass(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	g.conns = append(g.conns, conns...)
	return true
}

// Set shuts the gate, which drops every connection, or opens it.
func (g *Gate) Set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if shut {
		for _, c := range g.conns {
			c.Close()
		}
		g.conns = nil
	}
}

// ReceiverProcess starts the released receiver by its documented environment, and returns its address.
func (s *Site) ReceiverProcess(path string, extra ...string) (cmd *exec.Cmd, url string) {
	s.T.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.T.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	rules := filepath.Join(s.T.TempDir(), "rules.yaml")
	text := "rules:\n"
	for _, r := range s.Rules {
		text += fmt.Sprintf("- {alarm: %q, preempt: {tag: %q}}\n", r.Alarm, r.Action.(trigger.Preempt).Tag)
	}
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		s.T.Fatal(err)
	}
	cmd = exec.Command(path)
	cmd.Env = append([]string{
		"TEMPORAL_URL=" + s.Server.HostPort(), "TEMPORAL_NAMESPACE=" + s.Server.Namespace(), "TEMPORAL_TASKQUEUE=" + s.Queue,
		"PREEMPTION_CONFIG=" + rules, "PORT=" + port, "HOME=" + os.Getenv("HOME"),
	}, extra...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.T.Failed() {
			s.T.Log(log.String())
		}
	})
	url = "http://127.0.0.1:" + port
	s.Eventually("the receiver is ready", func() bool {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return cmd, url
}

// Hold keeps every call of a SOAP method waiting until the function that it returns is called.
func (s *Site) Hold(method string) (release func()) {
	held := make(chan struct{})
	release = sync.OnceFunc(func() { close(held) })
	s.T.Cleanup(release)
	s.VC.Hook(method, func(types.ManagedObjectReference) { <-held })
	return release
}

// Deaf lets every guest ignore its shutdown.
func (s *Site) Deaf() {
	for _, vm := range s.VC.TaggedVMs("") {
		s.VC.IgnoreShutdown(vm.Ref)
	}
}
