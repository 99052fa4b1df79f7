package embedded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"
	"go.temporal.io/api/workflowservice/v1"
)

// webUI is the running web UI.
type webUI struct {
	url  string
	stop func()
}

// serveUI assembles the UI from ui-server's parts. Its own Server is not used: it opens its listener itself and ends the
// whole process when it cannot, and it leaves its connection to Temporal open.
func serveUI(temporal string, o Options) (_ *webUI, err error) {
	l, err := listenPreferred(o.UIPort, o.RequirePort)
	if err != nil {
		return nil, fmt.Errorf("port %d of %s for the web UI: %w: stop its user or choose another port", o.UIPort, loopback, err)
	}
	handler, disconnect, err := uiHandler(temporal, o.Namespace)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("web UI: %w", err), l.Close())
	}
	srv := &http.Server{
		Handler:           onlyLocalNames(handler),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			o.Logger.Error("the web UI ended", "component", "temporal-ui", "error", err)
		}
	}()
	stop := func() {
		_ = srv.Close()
		<-done
		disconnect()
	}
	return &webUI{url: "http://" + l.Addr().String(), stop: stop}, nil
}

func listenPreferred(port int, required bool) (net.Listener, error) {
	l, err := net.Listen("tcp", hostPort(port))
	if err != nil && !required {
		return net.Listen("tcp", hostPort(0))
	}
	return l, err
}

func uiHandler(temporal, namespace string) (_ http.Handler, disconnect func(), err error) {
	cfg := &config.Config{
		TemporalGRPCAddress: temporal,
		EnableUI:            true,
		HideLogs:            true,
		DefaultNamespace:    namespace,
		DisableNewsFetch:    true,
		CORS:                config.CORS{CookieInsecure: true}, // plain HTTP, on loopback
	}
	provider, err := config.NewConfigProviderWithRefresh(cfg)
	if err != nil {
		return nil, nil, err
	}
	conn, err := api.CreateGRPCConnection(provider)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", temporal, err)
	}
	disconnect = func() { _ = conn.Close() }

	e := newEcho(provider)
	route.SetHealthRoute(e)
	g := e.Group("/api/v1")
	g.GET("/settings", api.GetSettings(provider))
	g.GET(api.WorkflowRawHistoryUrl, api.WorkflowRawHistoryHandler(workflowservice.NewWorkflowServiceClient(conn)))
	g.Any("/*", api.TemporalAPIHandler(provider, nil, conn))
	if err := addPages(e); err != nil {
		disconnect()
		return nil, nil, err
	}
	return e, disconnect, nil
}

func newEcho(provider config.ConfigProvider) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Logger.SetOutput(io.Discard)
	e.Use(
		middleware.Recover(),
		middleware.Gzip(),
		middleware.Secure(),
		csrf.EnsureTokenCookie(false),
		middleware.CSRFWithConfig(csrf.MiddlewareConfig(provider, false)),
	)
	return e
}

func addPages(e *echo.Echo) error {
	assets, err := ui.Assets()
	if err != nil {
		return fmt.Errorf("read its pages: %w", err)
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return fmt.Errorf("read its pages: %w", err)
	}
	route.SetRenderRoute(e, "")
	return route.SetUIRoutes(e, "", assets)
}

// onlyLocalNames refuses requests that were made for another host name. Otherwise any web page that this machine's
// browser shows could reach the UI, and through it Temporal, by pointing its own name at 127.0.0.1.
func onlyLocalNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		switch host {
		case loopback, "localhost", "::1", "[::1]":
			next.ServeHTTP(w, r)
		default:
			http.Error(w, "this server answers to localhost only", http.StatusForbidden)
		}
	})
}
