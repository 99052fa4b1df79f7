package console

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// inBrowser has the tests drive a real browser, which must be installed: Chromium or Chrome, found by name.
var inBrowser = flag.Bool("browser", false, "open the console in a headless Chromium, which must be installed")

// shots is a folder for screenshots; "": none are taken.
var shots = flag.String("shots", "", "folder to write screenshots into")

//go:embed testdata/axe.min.js
var axe string

// browser is one page of a headless browser, and what it did that the console must not do.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base *url.URL

	mu    sync.Mutex
	wrong []string
}

// open starts a browser for the console at an address.
func open(t *testing.T, address string) *browser {
	t.Helper()
	if !*inBrowser {
		t.Skip("no browser is asked for: give -browser where Chromium is installed")
	}
	base, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, leave := chromedp.NewContext(ctx)
	b := &browser{t: t, ctx: ctx, base: base}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser has ended, so that its folder can go
		leave()
	})
	// The browser lives as long as the context of its first use.
	if err := chromedp.Listen(ctx, b.heed); err != nil {
		t.Fatalf("start a browser: %v", err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	return b
}

// call sends one command to the browser.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	r, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return r
}

// heed notes what a page must not do: ask elsewhere, break its policy, fail.
func (b *browser) heed(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Host != b.base.Host && u.Scheme != "data" && u.Scheme != "about" {
			b.note("it asks for " + e.Request.URL)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "status of 404") && e.Entry.Source != log.EntrySourceNetwork {
			b.note(string(e.Entry.Source) + ": " + e.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		b.note("a script fails: " + fmt.Sprint(e.ExceptionDetails))
	}
}

func (b *browser) note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, text)
}

// clean checks that nothing was noted.
func (b *browser) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.wrong {
		b.t.Error(text)
	}
	b.wrong = nil
}

// run has the browser do something.
func run[T any](b *browser, what string, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	return v
}

// goTo opens a page of the console.
func (b *browser) goTo(path string) {
	b.t.Helper()
	run(b, "open "+path, chromedp.Navigate(b.base.String()+path))
}

// eval returns what an expression is in the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	return run(b, "evaluate "+expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// text is what the page shows.
func (b *browser) text() string { return eval[string](b, `document.body.innerText`) }

// shows waits until the page shows words.
func (b *browser) shows(words string) {
	b.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		text := b.text()
		if strings.Contains(text, words) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the page never shows %q; it shows:\n%s", words, text)
		}
	}
}

// looks are how a page is looked at.
var looks = []struct {
	name, scheme string
	width        int64
}{
	{"light-1440", "light", 1440}, {"dark-1440", "dark", 1440}, {"light-375", "light", 375}, {"dark-375", "dark", 375},
}

// accessible checks a page in light and dark, narrow and wide: axe finds nothing, and nothing is cut off to the side.
func (b *browser) accessible(name string) {
	b.t.Helper()
	for _, l := range looks {
		run(b, "look at it in "+l.name, chromedp.EmulateViewport(l.width, 900))
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}},
		})
		if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
			b.t.Errorf("%s in %s: it is %d pixels too wide", name, l.name, over)
		}
		for _, violation := range b.violations() {
			b.t.Errorf("%s in %s: %s", name, l.name, violation)
		}
		b.shot(name + "-" + l.name)
	}
}

// violations are what axe finds.
func (b *browser) violations() []string {
	b.t.Helper()
	run(b, "load axe", chromedp.Evaluate[chromedp.Void](axe))
	found := eval[string](b, `axe.run(document, {resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.map(
		(v) => v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map((n) => n.html + " (" + n.failureSummary + ")").join("; "))))`)
	var all []string
	if err := json.Unmarshal([]byte(found), &all); err != nil {
		b.t.Fatal(err)
	}
	return all
}

// shot takes a picture of the whole page, where that is asked for.
func (b *browser) shot(name string) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	write(b.t, fmt.Sprintf("%s/%s.png", *shots, name), run(b, "take a picture", chromedp.CaptureScreenshot()))
}

// key presses a key.
func (b *browser) key(k string) {
	b.t.Helper()
	run(b, "press a key", chromedp.KeyEvent(k))
}
