package simulation

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// VCenter is one simulated vCenter. Its methods may be called from any goroutine.
type VCenter struct {
	options Options
	service *simulator.Service
	model   *simulator.Model
	vapi    http.Handler // tags and REST sessions
	dir     string       // files of the simulated datastores
	cert    tls.Certificate

	server    server
	calls     counters
	rules     rules
	sessions  sessions
	hidden    hidden
	rate      rate
	machines  machines
	load      load
	admission admission
	history   history
	profiles  profiles
	lag       lag
	storage   storage
	twin      *twin // of a saved inventory; nil for one that was built
	collected collected
	unknown   atomic.Bool // events of classes that clients do not know were posted

	valueLimit atomic.Int64 // characters of a custom attribute; 0: any number
	clock      atomic.Int64 // nanoseconds that vCenter's clock is ahead

	mu         sync.Mutex // guards what follows; a leaf, never held while taking an object's lock
	password   string
	datacenter types.ManagedObjectReference
	clusters   []Cluster
	alarms     map[string]types.ManagedObjectReference
	entering   map[types.ManagedObjectReference]*simulator.Task // hosts into maintenance
	closed     bool

	work    sync.WaitGroup // requests, shutdowns, tasks, the load model; see begin
	done    chan struct{}  // closed by Close
	detach  func() bool    // from the context of Start
	closing sync.Once
}

// Start builds the inventory and serves it until Close is called or ctx ends.
func Start(ctx context.Context, o Options) (*VCenter, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	cert, err := newCertificate()
	if err != nil {
		return nil, err
	}
	v := &VCenter{
		options: o, cert: cert, password: o.Password, done: make(chan struct{}),
		alarms: map[string]types.ManagedObjectReference{},
	}
	v.calls.reset()
	v.machines.init()
	v.storage.init()
	v.SetLatency(o.Latency)
	if err := v.build(); err != nil {
		v.Close()
		return nil, err
	}
	v.startLoad()
	if err := v.server.start(o.Addr, v.tls(), http.HandlerFunc(v.serve)); err != nil {
		v.Close()
		return nil, err
	}
	v.detach = context.AfterFunc(ctx, v.Close)
	return v, nil
}

// Close stops the server, waits for what is under way in the model and removes its files. It may be called twice.
func (v *VCenter) Close() {
	v.closing.Do(func() {
		v.mu.Lock()
		v.closed = true
		v.mu.Unlock()
		if v.detach != nil {
			v.detach()
		}
		close(v.done)
		v.server.stop()
		v.work.Wait()
		if v.model != nil && v.model.Service != nil {
			v.model.Remove()
		}
		if v.dir != "" {
			_ = os.RemoveAll(v.dir)
		}
	})
}

// begin counts a piece of work that Close must wait for, and refuses it once Close was called. The caller calls
// v.work.Done when it is through.
func (v *VCenter) begin() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	v.work.Add(1)
	return true
}

// sleep waits for d and tells whether it elapsed; false means that the vCenter was closed.
func (v *VCenter) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-v.done:
		return false
	}
}

func (v *VCenter) tls() *tls.Config {
	if v.options.PlainHTTP {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert := v.certificate()
		return &cert, nil
	}}
}

// URL is the address of the SDK, without credentials: https://127.0.0.1:PORT/sdk.
func (v *VCenter) URL() string {
	u := url.URL{Scheme: "https", Host: v.server.address(), Path: "/sdk"}
	if v.options.PlainHTTP {
		u.Scheme = "http"
	}
	return u.String()
}

// Username is the one user that may log in, as it is typed at login.
func (v *VCenter) Username() string { return v.options.Username }

// Password is the password that a login needs now.
func (v *VCenter) Password() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.password
}

// EventUser is the user's name as this vCenter writes it in sessions, tasks and events (see Options.UserForm).
func (v *VCenter) EventUser() string { return v.writeUser(v.options.Username) }

func (v *VCenter) writeUser(user string) string {
	if v.options.UserForm == PrincipalForm {
		return user
	}
	return domainForm(user)
}

// SetPassword rotates the password: later logins need the new one, sessions that exist live on.
func (v *VCenter) SetPassword(password string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.password = password
}

// WriteSecret writes the files username and password into dir, as a mounted Kubernetes secret has them.
func (v *VCenter) WriteSecret(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the secret's folder %s: %w", dir, err)
	}
	for name, value := range map[string]string{"username": v.Username(), "password": v.Password()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			return fmt.Errorf("write the simulator's %s to %s: %w", name, path, err)
		}
	}
	return nil
}

// validLogin also rewrites the request: the simulator names the session after it, and vCenter names it DOMAIN\user.
func (v *VCenter) validLogin(req *types.Login) bool {
	ok := req.UserName == v.options.Username || req.UserName == domainForm(v.options.Username)
	if !ok || req.Password != v.Password() {
		return false
	}
	req.UserName = v.EventUser()
	return true
}
