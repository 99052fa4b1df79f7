package e2e

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

// receiver serves the site's rules on a port of its own, and returns its address.
func (s *site) receiver(adapt ...func(*receiver.Config, *trigger.Engine)) (url string) {
	s.t.Helper()
	engine := &trigger.Engine{Temporal: s.c, TaskQueue: s.queue, Rules: s.rules}
	cfg := receiver.Config{Engine: engine, Classes: trigger.Classes(s.rules), Log: s.log}
	for _, f := range adapt {
		f(&cfg, engine)
	}
	r, err := receiver.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := receiver.Server(r, s.log)
	go func() { _ = server.Serve(listener) }() // ends with Close
	s.t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}

// routed is an event of vCenter as the event router wraps it, with an id drawn anew.
func routed(t testing.TB, source string, ev types.AlarmStatusChangedEvent) event.Event {
	t.Helper()
	return wrapped(t, source, "com.vmware.event.router/event", ev.CreatedTime, event.ApplicationJSON, ev)
}

// sourced is an event of vCenter as Knative's vSphere source wraps it: in XML.
func sourced(t testing.TB, source string, ev types.AlarmStatusChangedEvent) event.Event {
	t.Helper()
	text, err := xml.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	e := wrapped(t, source, "com.vmware.vsphere."+string(alarm.ClassAlarm)+".v0", ev.CreatedTime, event.ApplicationXML, text)
	e.SetExtension("eventclass", "event")
	return e
}

func wrapped(t testing.TB, source, kind string, at time.Time, media string, data any) event.Event {
	t.Helper()
	e := event.New()
	e.SetID(fmt.Sprintf("drawn-%d", nextID.Add(1)))
	e.SetSource(source)
	e.SetType(kind)
	e.SetSubject(string(alarm.ClassAlarm))
	e.SetTime(at)
	if err := e.SetData(media, data); err != nil {
		t.Fatal(err)
	}
	return e
}

// answer is what the receiver answers.
type answer struct {
	code                              int
	after                             string // when to come back
	Verdict, WorkflowID, What, Reason string
}

// bring sends an event in structured mode and reads the whole answer.
func (s *site) bring(url string, e event.Event) (a answer) {
	s.t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", event.ApplicationCloudEventsJSON)
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		s.t.Fatal(err)
	}
	a.code, a.after = resp.StatusCode, resp.Header.Get("Retry-After")
	return a
}

// bringAlarm posts a change of an alarm in vCenter and has the router bring it.
func (s *site) bringAlarm(url, name, cluster string, host int, from, to string) {
	s.t.Helper()
	a := s.bring(url, routed(s.t, s.vc.URL(), s.post(name, cluster, host, from, to)))
	if a.code != http.StatusAccepted || a.WorkflowID != s.id(s.intake(name, cluster)) {
		s.t.Fatalf("%s from %s to %s on %s: %+v", name, from, to, cluster, a)
	}
}

// bySDK sends with the CloudEvents client, in binary mode unless told otherwise.
func bySDK(t *testing.T, url string, e event.Event, structured bool) int {
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

// byCurl sends the event as a person does: with curl, or where the machine has none, with what curl would
// put on the wire.
func byCurl(t *testing.T, url string, e event.Event) (code int) {
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

// gate is a way to Temporal that can be shut.
type gate struct {
	listener net.Listener
	mu       sync.Mutex
	shut     bool
	conns    []net.Conn
}

func newGate(t testing.TB) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: listener}
	t.Cleanup(func() { listener.Close(); g.set(true) })
	go g.serve()
	return g
}

func (g *gate) serve() {
	for {
		in, err := g.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", server.HostPort())
		if err != nil || !g.pass(in, out) {
			in.Close()
			continue
		}
		go func() { _, _ = io.Copy(out, in); out.Close() }()
		go func() { _, _ = io.Copy(in, out); in.Close() }()
	}
}

// pass keeps a pair of connections; false where the gate is shut.
func (g *gate) pass(conns ...net.Conn) bool {
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

func (g *gate) set(shut bool) {
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
