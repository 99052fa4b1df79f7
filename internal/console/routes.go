package console

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// askLimit is how long a page may wait for Temporal.
const askLimit = 5 * time.Second

// notFound, badRequest and notNow are errors that a page is answered with. notNow is of what is known again later.
type (
	notFound   struct{ error }
	badRequest struct{ error }
	notNow     struct{ error }
)

// apiPath begins the paths that answer with JSON.
const apiPath = "/api/"

// look is what one page shows: it is the page's content and what /api/v1/ answers.
type look struct {
	title string
	nav   string // which entry of the navigation is current
	live  bool   // it is read again while it is looked at
	every string // how often; "": the usual
	name  string // of the template
	data  any
	lines []string // one sentence each, of what has changed when it changes: a screen reader says them
}

// looker makes a look from a request.
type looker func(ctx context.Context, req *http.Request) (look, error)

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	for at, l := range map[string]looker{
		"/{$}": c.nowPage, "/rounds/{id}": c.roundPage, "/work/{id}": c.workPage, "/vms/{name}": c.vmPage, "/history": c.historyPage,
		"/remediation": c.remediationPage, "/policies": c.policiesPage, "/health": c.healthPage,
	} {
		mux.HandleFunc("GET "+at, c.html(l))
		if at == "/{$}" {
			at = "/now"
		}
		mux.HandleFunc("GET /api/v1"+at, c.json(l))
	}
	mux.HandleFunc("GET /api/v1/sums", c.json(c.sums))
	mux.HandleFunc("GET /api/v1/{$}", c.json(index))
	mux.HandleFunc("GET /api/", c.json(func(context.Context, *http.Request) (look, error) {
		return look{}, notFound{errors.New("there is no such path: /api/v1/ lists them")}
	}))
	mux.HandleFunc("GET /assets/{file}", asset)
	mux.HandleFunc("GET /", c.html(func(context.Context, *http.Request) (look, error) {
		return look{}, notFound{errors.New("there is no such page")}
	}))
	return mux
}

// html answers with a page, or with its live part where the page asks for it again.
func (c *Console) html(l looker) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), askLimit)
		defer cancel()
		c.catchUp(ctx)
		code := http.StatusOK
		shown, err := l(ctx, req)
		if err != nil {
			code = statusOf(err)
			shown = look{title: http.StatusText(code), name: "error.html", data: problem{Status: code, Error: err.Error()}}
		}
		p := c.page(ctx, req, shown)
		part := "layout"
		if req.Header.Get("HX-Request") == "true" {
			part = "live"
		}
		var out bytes.Buffer
		if err := pages[shown.name].ExecuteTemplate(&out, part, p); err != nil {
			c.cfg.Log.Error("a page of the console cannot be made", "page", shown.name, "reason", err)
			http.Error(w, "this page cannot be made; see the log", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Vary", "HX-Request")
		w.WriteHeader(code)
		_, _ = w.Write(out.Bytes()) // whoever asked has gone
	}
}

// problem is an answer that says what is wrong.
type problem struct {
	Status int    `json:"status"`
	Error  string `json:"error"`
}

// json answers with the data of a page.
func (c *Console) json(l looker) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), askLimit)
		defer cancel()
		c.catchUp(ctx)
		code, data := http.StatusOK, any(nil)
		shown, err := l(ctx, req)
		if data = shown.data; err != nil {
			code = statusOf(err)
			data = problem{Status: code, Error: err.Error()}
		}
		b, err := json.MarshalIndent(data, "", " ")
		if err != nil {
			code, b = http.StatusInternalServerError, []byte(`{"status":500,"error":"the answer cannot be written"}`)
			c.cfg.Log.Error("an answer of the console cannot be made", "path", req.URL.Path, "reason", err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(append(b, '\n')) // whoever asked has gone
	}
}

func statusOf(err error) int {
	switch {
	case errors.As(err, new(notFound)):
		return http.StatusNotFound
	case errors.As(err, new(badRequest)):
		return http.StatusBadRequest
	case errors.As(err, new(notNow)):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// index lists what /api/v1/ has.
func index(context.Context, *http.Request) (look, error) {
	return look{data: map[string]any{"version": "v1", "paths": []string{
		"/api/v1/now", "/api/v1/history", "/api/v1/sums", "/api/v1/rounds/{id}", "/api/v1/work/{id}", "/api/v1/vms/{name}",
		"/api/v1/remediation", "/api/v1/policies", "/api/v1/health",
	}}}, nil
}

// asset answers with one of our files. Their names have no version, so browsers ask each time whether they have changed.
func asset(w http.ResponseWriter, req *http.Request) {
	name := req.PathValue("file")
	b, err := fs.ReadFile(assets, path.Join("assets", path.Base(name)))
	kind := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
	if err != nil || kind == "" {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", sums[path.Base(name)])
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(b))
}

// page is what the layout needs.
type page struct {
	Title, Nav string
	Live       bool
	Every      string
	Path       string
	Version    string
	At         time.Time
	Target     Target
	Banners    []banner
	Status     []string
	Data       any
}

// banner is something that everybody who looks must know.
type banner struct {
	Kind    string // "bad", or "warn"
	Text    string
	Command string // what to do about it
}

func (c *Console) page(ctx context.Context, req *http.Request, l look) page {
	now, err := c.state(ctx)
	p := page{
		Title: l.title, Nav: l.nav, Live: l.live, Every: "2s", Path: req.URL.RequestURI(), Version: c.cfg.Version, At: c.cfg.Clock().UTC(),
		Target: c.target(), Data: l.data, Status: l.lines, Banners: c.banners(now, err),
	}
	if req.URL.Query().Get("all") != "" {
		p.Every = "6s" // many rows
	}
	p.Every = cmp.Or(l.every, p.Every)
	if l.name == "error.html" {
		p.Live = false
	}
	return p
}

func (c *Console) target() Target {
	return Target{Server: c.cfg.Server, Namespace: c.cfg.Record.Namespace, Queue: c.cfg.Record.TaskQueue}
}

// banners say what keeps the pages from being the truth, and what stops the work.
func (c *Console) banners(now record.Now, err error) []banner {
	var all []banner
	command := c.target().Command
	switch {
	case err != nil:
		all = append(all, banner{
			Kind: "bad", Command: command("doctor"),
			Text: fmt.Sprintf("Temporal at %s does not answer: %s. What you see is as it was %s.", c.cfg.Server, err, sinceWords(c.cfg.Clock(), now.OpenAt)),
		})
		return all
	case !now.Workers.Polled && !now.Workers.At.IsZero():
		all = append(all, banner{
			Kind: "bad", Command: command("doctor"),
			Text: fmt.Sprintf("No worker polls task queue %s: nothing is decided, and nothing under way goes on.", c.cfg.Record.TaskQueue),
		})
	default:
		for _, t := range now.Troubles {
			all = append(all, banner{Kind: "warn", Text: "Cannot read " + t.Part + ": " + t.Error, Command: command("doctor")})
		}
	}
	for _, p := range now.Ledger.Pauses {
		all = append(all, banner{Kind: "warn", Text: "Paused: " + p.Words() + ".", Command: command(p.Resumes()...)})
	}
	if w := now.Watch.State; w != nil && w.Paused {
		text := "The watch is paused: alarms start nothing"
		if w.Reason != "" {
			text += " (" + w.Reason + ")"
		}
		all = append(all, banner{Kind: "warn", Text: text + ".", Command: command("watch", "start")})
	} else if w != nil && w.Checkpoint.Trouble != "" {
		all = append(all, banner{Kind: "warn", Text: "The watch is in trouble: " + w.Checkpoint.Trouble, Command: command("watch", "status")})
	}
	return all
}
