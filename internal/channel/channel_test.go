package channel

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

func book(t *testing.T, address string, allow ...string) (*Book, error) {
	t.Helper()
	hosts, err := notify.New(allow, 0)
	if err != nil {
		t.Fatal(err)
	}
	set := tell.Settings{Channels: []tell.Channel{{Name: "ops", URLFrom: tell.Source{Env: "OPS"}, On: tell.Events()}}}
	return New(set, func(string) string { return address }, hosts)
}

func TestAnAddressThatCannotBeUsedIsRefusedWithoutBeingRepeated(t *testing.T) {
	for what, address := range map[string]string{
		"none": "", "another service": "telegram://canary1234@telegram", "no URL": "slack://canary1234:%zz", "a bare hook": "https://hooks.slack.com/services/canary1234",
		"a wrong token": "slack://hook:canary1234@webhook", "a custom scheme": "slack+https://canary1234", "a shell": "generic+file:///canary1234",
	} {
		if _, err := book(t, address); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWellFormedAddressesOfEachServiceAreTaken(t *testing.T) {
	for _, address := range []string{
		"slack://hook:TAAAAAAAA-BBBBBBBBB-123456789123456789123456@webhook", "discord://token@123456789", "pagerduty:///eb243592faa24ba2a5511afdf565c889",
		"opsgenie://api.opsgenie.com/eb243592-faa2-4ba2-a551-1afdf565c889", "smtp://user:pw@mail.example.com:587/?fromaddress=a@example.com&toaddresses=b@example.com",
		"generic://example.com/hook", "generic+https://example.com/hook?template=json",
	} {
		if _, err := book(t, address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestLoopbackAndMetadataAreOnlyCalledIfTheFileAllowsThem(t *testing.T) {
	called := false
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer hook.Close()
	b, err := book(t, "generic+"+hook.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Send(t.Context(), "ops", "", tell.Text{Body: "x"}); err == nil || called || !strings.Contains(err.Error(), "limits.replyAllow") {
		t.Errorf("%v, called %v", err, called)
	}
}

func TestAFailureTellsTheStatusAndNothingOfTheAddress(t *testing.T) {
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.URL.String(), http.StatusForbidden)
	}))
	defer hook.Close()
	b, err := book(t, "generic+"+hook.URL+"/canary1234/x?token=canary1234", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	err = b.Send(t.Context(), "ops", "", tell.Text{Body: "x"})
	if err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
	if check := b.Checks()[0]; !strings.Contains(check.Text, "403") || strings.Contains(check.Text, "canary") {
		t.Errorf("doctor: %+v", check)
	}
}

func TestAFileIsReadBeforeEachMessage(t *testing.T) {
	var got []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got = append(got, r.URL.Path+" "+string(text))
	}))
	defer hook.Close()
	file := filepath.Join(t.TempDir(), "url")
	write := func(path string) {
		if err := os.WriteFile(file, []byte("generic+"+hook.URL+path+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hosts, err := notify.New([]string{"127.0.0.1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	set := tell.Settings{Channels: []tell.Channel{{Name: "ops", URLFrom: tell.Source{File: file}, On: tell.Events()}}}
	if _, err := New(set, nil, hosts); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file that is not there: %v", err)
	}
	write("/old")
	b, err := New(set, nil, hosts)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/old", "/new"} {
		write(path)
		if err := b.Send(t.Context(), "ops", "", tell.Text{Body: "hello"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 2 || got[0] != "/old hello" || got[1] != "/new hello" {
		t.Errorf("%q", got)
	}
}

func TestALibraryThatPanicsOrHangsEndsNoWorker(t *testing.T) {
	b, err := book(t, "generic://example.com")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.within(t.Context(), "ops", func() error { panic("canary") }); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	release := make(chan struct{})
	defer close(release)
	for range maxHanging {
		if err := b.within(over, "ops", func() error { <-release; return nil }); !errors.Is(err, errHangs) {
			t.Errorf("%v", err)
		}
	}
	if err := b.within(t.Context(), "ops", func() error { return nil }); !errors.Is(err, errBusy) {
		t.Errorf("%v", err)
	}
}
