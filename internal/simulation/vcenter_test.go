package simulation_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

const (
	on  = types.VirtualMachinePowerStatePoweredOn
	off = types.VirtualMachinePowerStatePoweredOff
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the simulator logs each fault that it answers
	os.Exit(m.Run())
}

func small() simulation.Options {
	return simulation.Options{Clusters: 2, HostsPerCluster: 2, VMsPerCluster: 4, Tagged: 2}
}

func start(t testing.TB, o simulation.Options) *simulation.VCenter {
	t.Helper()
	v, err := simulation.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(v.Close)
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect makes a client that trusts the simulator's certificate; it is not logged in.
func connect(t testing.TB, v *simulation.VCenter) *vim25.Client {
	t.Helper()
	u, err := url.Parse(v.URL())
	must(t, err)
	s := soap.NewClient(u, false)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(v.CertPEM())
	s.DefaultTransport().TLSClientConfig.RootCAs = pool
	t.Cleanup(s.CloseIdleConnections)
	c, err := vim25.NewClient(t.Context(), s)
	must(t, err)
	return c
}

func login(t testing.TB, v *simulation.VCenter) *vim25.Client {
	t.Helper()
	c := connect(t, v)
	must(t, session.NewManager(c).Login(t.Context(), url.UserPassword(v.Username(), v.Password())))
	return c
}

func loginREST(t testing.TB, v *simulation.VCenter, c *vim25.Client) *rest.Client {
	t.Helper()
	r := rest.NewClient(c)
	must(t, r.Login(t.Context(), url.UserPassword(v.Username(), v.Password())))
	return r
}

func properties(t testing.TB, c *vim25.Client, ref types.ManagedObjectReference, dst any, names ...string) {
	t.Helper()
	must(t, property.DefaultCollector(c).RetrieveOne(t.Context(), ref, names, dst))
}

func powerOff(t testing.TB, c *vim25.Client, ref types.ManagedObjectReference) error {
	t.Helper()
	task, err := object.NewVirtualMachine(c, ref).PowerOff(t.Context())
	if err != nil {
		return err
	}
	return task.Wait(t.Context())
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never happened: " + what)
		}
	}
}

func isFault[F types.BaseMethodFault](err error) bool {
	var f F
	return fault.Is(err, f)
}

func TestADemoIsUpQuicklyWithTheInventoryAskedFor(t *testing.T) {
	before := time.Now()
	v := start(t, simulation.Options{})
	if took := time.Since(before); took > time.Minute {
		t.Errorf("starting took %v", took)
	} else {
		t.Logf("started in %v", took)
	}
	inventory := v.Inventory()
	if len(inventory.Clusters) != 2 || len(v.VMs()) != 30 || len(v.TaggedVMs("")) != 12 {
		t.Fatalf("%d clusters, %d VMs, %d tagged", len(inventory.Clusters), len(v.VMs()), len(v.TaggedVMs("")))
	}
	c := login(t, v)
	var cluster mo.ClusterComputeResource
	properties(t, c, v.Cluster("cluster-b").Ref, &cluster, "name", "host", "summary")
	if cluster.Name != "cluster-b" || len(cluster.Host) != 3 {
		t.Errorf("cluster %q with %d hosts", cluster.Name, len(cluster.Host))
	}
	var host mo.HostSystem
	properties(t, c, cluster.Host[0], &host, "name", "vm")
	if !strings.HasPrefix(host.Name, "esx-b-") || len(host.Vm) != 5 {
		t.Errorf("host %q with %d VMs", host.Name, len(host.Vm))
	}
	var vm mo.VirtualMachine
	properties(t, c, v.VM("cluster-a-batch-01"), &vm, "name", "runtime", "guest", "summary")
	if vm.Name != "cluster-a-batch-01" || vm.Runtime.PowerState != on || vm.Runtime.BootTime == nil ||
		vm.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		t.Errorf("VM %q is %+v with tools %q", vm.Name, vm.Runtime.PowerState, vm.Guest.ToolsRunningStatus)
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for name, o := range map[string]simulation.Options{
		"an address that others could reach": {Addr: "0.0.0.0:0"},
		"an address without a port":          {Addr: "127.0.0.1"},
		"a negative number of VMs":           {VMsPerCluster: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if v, err := simulation.Start(t.Context(), o); err == nil {
				v.Close()
				t.Error("it started")
			}
		})
	}
}

func TestOnlyTheRightPasswordLogsIn(t *testing.T) {
	v := start(t, small())
	c := connect(t, v)
	wrong := url.UserPassword(v.Username(), "wrong")
	if err := session.NewManager(c).Login(t.Context(), wrong); !isFault[*types.InvalidLogin](err) {
		t.Errorf("SOAP login with a wrong password: %v", err)
	}
	if err := rest.NewClient(c).Login(t.Context(), wrong); err == nil {
		t.Error("REST login with a wrong password succeeds")
	}
	must(t, session.NewManager(c).Login(t.Context(), url.UserPassword(v.Username(), v.Password())))
	loginREST(t, v, c)
	s, err := session.NewManager(c).UserSession(t.Context())
	must(t, err)
	if s.UserName != `VSPHERE.LOCAL\preemption` || v.EventUser() != s.UserName {
		t.Errorf("the session belongs to %q, events to %q", s.UserName, v.EventUser())
	}
}

func TestARotatedPasswordAppliesToLaterLogins(t *testing.T) {
	v := start(t, small())
	old := login(t, v)
	v.SetPassword("rotated")
	if _, err := session.NewManager(old).UserSession(t.Context()); err != nil {
		t.Errorf("the old session ended: %v", err)
	}
	if err := session.NewManager(connect(t, v)).Login(t.Context(), url.UserPassword(v.Username(), "vcsim")); err == nil {
		t.Error("the old password still logs in")
	}
	login(t, v)
	dir := filepath.Join(t.TempDir(), "secret")
	must(t, v.WriteSecret(dir))
	for file, want := range map[string]string{"username": v.Username(), "password": "rotated"} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", file, got, err)
		}
	}
}

func TestTheCertificateIsItsOwn(t *testing.T) {
	v := start(t, small())
	u, _ := url.Parse(v.URL())
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // to look at it
	must(t, err)
	defer conn.Close()
	cert := conn.ConnectionState().PeerCertificates[0]
	if got := soap.ThumbprintSHA1(cert); got != v.Thumbprint() {
		t.Errorf("SHA-1 thumbprint %s, the server says %s", v.Thumbprint(), got)
	}
	if got := soap.ThumbprintSHA256(cert); got != v.ThumbprintSHA256() {
		t.Errorf("SHA-256 thumbprint %s, the server says %s", v.ThumbprintSHA256(), got)
	}
	_, err = http.Get(v.URL()) //nolint:bodyclose,noctx // it fails
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("without the certificate: %v", err)
	}
}

func TestPlainHTTPHasNoCertificate(t *testing.T) {
	o := small()
	o.PlainHTTP, o.UserForm = true, simulation.PrincipalForm
	v := start(t, o)
	if !strings.HasPrefix(v.URL(), "http://127.0.0.1:") || v.CertPEM() != nil || v.Thumbprint() != "" || v.ThumbprintSHA256() != "" {
		t.Errorf("%s with certificate %q", v.URL(), v.CertPEM())
	}
	u, _ := url.Parse(v.URL())
	c, err := vim25.NewClient(t.Context(), soap.NewClient(u, false))
	must(t, err)
	must(t, session.NewManager(c).Login(t.Context(), url.UserPassword(v.Username(), v.Password())))
	if v.EventUser() != "preemption@vsphere.local" {
		t.Errorf("events carry %q", v.EventUser())
	}
}

func TestItClosesWithItsContextAndLeavesNoFiles(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	v, err := simulation.Start(ctx, small())
	must(t, err)
	c := connect(t, v)
	must(t, session.NewManager(c).Login(t.Context(), url.UserPassword(v.Username(), v.Password())))
	cancel()
	v.Close()
	eventually(t, "all files are gone", func() bool {
		left, err := os.ReadDir(os.Getenv("TMPDIR"))
		return err == nil && len(left) == 0
	})
	if _, err := session.NewManager(c).UserSession(t.Context()); err == nil {
		t.Error("it still serves")
	}
}
