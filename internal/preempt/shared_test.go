package preempt

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"google.golang.org/grpc"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// namespace has search attributes.
type namespace struct {
	client.Client
	operatorservice.OperatorServiceClient
	known map[string]enumspb.IndexedValueType
	err   error
}

func (n *namespace) OperatorService() operatorservice.OperatorServiceClient { return n }

func (n *namespace) ListSearchAttributes(context.Context, *operatorservice.ListSearchAttributesRequest, ...grpc.CallOption) (*operatorservice.ListSearchAttributesResponse, error) {
	return &operatorservice.ListSearchAttributesResponse{CustomAttributes: n.known}, n.err
}

func TestWorkflowsGoWithoutSearchAttributesUntilAllAreRegistered(t *testing.T) {
	n := &namespace{known: map[string]enumspb.IndexedValueType{}}
	e := &Env{Temporal: n}
	if err := e.CheckAttributes(t.Context(), "ns"); err == nil || e.AttributesRegistered() || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("unexpected %v", err)
	}
	for _, name := range SearchAttributes() {
		n.known[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	if err := e.CheckAttributes(t.Context(), "ns"); err != nil || !e.AttributesRegistered() {
		t.Errorf("unexpected %v", err)
	}
	n.err = errors.New("no Temporal")
	if err := e.CheckAttributes(t.Context(), "ns"); err == nil || !e.AttributesRegistered() {
		t.Errorf("an outage changed what is known: %v", err)
	}
}

// recorded are VMs with the values of their attribute.
type recorded []vcenter.Owned

func (r recorded) Owned(context.Context, string) ([]vcenter.Owned, error) {
	if r == nil {
		return nil, errors.New("no vCenter")
	}
	return r, nil
}

func TestOnlyVMsThatAreOffByAPreemptionAreCounted(t *testing.T) {
	value := func(a Attribute) string {
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	preempted := Attribute{Preempted: true, RoundID: "round-1", PreemptedAt: time.Now()}
	back := preempted
	back.Preempted, back.Restored = false, true
	all := recorded{
		{PowerState: vsphere.PoweredOff, Value: value(preempted)},
		{PowerState: vsphere.PoweredOn, Value: value(preempted)},
		{PowerState: vsphere.PoweredOff, Value: value(back)},
		{PowerState: vsphere.PoweredOff, Value: "a note of somebody"},
	}
	e := &Env{Log: slog.New(slog.DiscardHandler)}
	counted := -1
	ctx, end := context.WithCancel(t.Context())
	e.CountPreempted(ctx, all, func(n int) { counted = n; end() })
	if counted != 1 {
		t.Errorf("%d are counted", counted)
	}
	e.CountPreempted(ctx, recorded(nil), func(int) { t.Error("what could not be read was counted") })
}

// replied sends a reply to an address that answers with the status.
func replied(t *testing.T, status int, in ReplyInput) (header http.Header, data map[string]any, err error) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(b, &data); err != nil {
			t.Error(err)
		}
		header = r.Header
		w.WriteHeader(status)
	}))
	defer s.Close()
	sender, err := notify.New([]string{"127.0.0.1"}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	a := &Replies{Env: &Env{Settings: Settings{EventSource: "temporal/ns"}, Log: slog.New(slog.DiscardHandler)}, Notify: sender}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a.SendPreemptedEvent)
	in.Target = s.URL
	_, err = env.ExecuteActivity(a.SendPreemptedEvent, in)
	return header, data, err
}

func TestAReplyIsTheDocumentedEvent(t *testing.T) {
	in := ReplyInput{ID: "id-1", Time: time.Now(), Attribute: Attribute{Tag: "spot"}, VMs: []vsphere.Ref{{Type: vsphere.TypeVM, Value: "vm-1"}}}
	header, data, err := replied(t, http.StatusOK, in)
	if err != nil || header.Get("Ce-Id") != "id-1" || header.Get("Ce-Type") != preemption.PreemptedEventType || header.Get("Ce-Source") != "temporal/ns" {
		t.Fatalf("%v, %v", header, err)
	}
	if data["tag"] != "spot" || len(data["virtualMachines"].([]any)) != 1 {
		t.Errorf("%v", data)
	}
}

func TestAReplyThatIsRefusedIsNotSentAgain(t *testing.T) {
	_, _, err := replied(t, http.StatusBadRequest, ReplyInput{ID: "id-1", Time: time.Now()})
	if ErrorType(err) != "ReplyRefused" {
		t.Errorf("unexpected %v", err)
	}
	if _, _, err = replied(t, http.StatusServiceUnavailable, ReplyInput{ID: "id-1", Time: time.Now()}); err == nil || ErrorType(err) == "ReplyRefused" {
		t.Errorf("unexpected %v", err)
	}
}

func TestAReplyAddressIsAnHTTPURL(t *testing.T) {
	for address, ok := range map[string]bool{"": true, "https://example.com/x": true, "http://10.0.0.1": true, "ftp://x": false, "example.com": false, "https://": false, ":": false} {
		if err := CheckReply(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestTargetsThatStayUndecidedAreGivenUpWhenTheTimeIsOver(t *testing.T) {
	e := &Env{Settings: Settings{Timing: Timing{Retry: time.Millisecond}}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	c := &Changing{env: e, Ctx: ctx, Asked: t.Context(), Sent: true}
	away := &vcenter.Error{Op: "call", Kind: vcenter.Unavailable, Err: errors.New("no answer")}
	var left []int
	var why error
	err := UntilDecided(c, []int{1, 2, 3}, func(todo []int) ([]int, error) {
		return slices.DeleteFunc(todo, func(n int) bool { return n == 2 }), away
	},
		func(l []int, err error) { left, why = l, err })
	if err != nil || !slices.Equal(left, []int{1, 3}) || !errors.Is(why, away) {
		t.Errorf("%v, left %v: %v", err, left, why)
	}
	why = nil
	refused := &vcenter.Error{Op: "call", Kind: vcenter.NoPermission, Err: errors.New("no")}
	if err := UntilDecided(c, []int{1}, func(todo []int) ([]int, error) { return todo, refused }, func(_ []int, err error) { why = err }); err != nil || !errors.Is(why, refused) {
		t.Errorf("%v: %v", err, why)
	}
}
