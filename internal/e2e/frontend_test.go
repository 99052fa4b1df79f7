package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// authority signs the certificates of a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM of the certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1000), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, key := a.sign(a.cert)
	a.key = key
	var err error
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	a.write(a.file, "CERTIFICATE", raw)
	return a
}

// sign signs with a new key, by the authority's own where it has one already.
func (a *authority) sign(c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	by := a.key
	if by == nil {
		by = key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	return raw, key
}

func (a *authority) write(file, kind string, raw []byte) {
	a.t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes a certificate for clients and servers of this machine, with its key, into folder.
func (a *authority) issue(folder string, serial int64) (cert, key string) {
	a.t.Helper()
	raw, private := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	a.write(cert, "CERTIFICATE", raw)
	a.write(key, "PRIVATE KEY", der)
	return cert, key
}

// frontend stands before Temporal's and lets in by TLS alone those who bring a certificate of the authority, or an API key.
type frontend struct {
	*httptest.Server
	apiKey string // "": a client certificate is asked for

	mu      sync.Mutex
	revoked int64 // serial number of a client certificate
	seen    map[int64]map[string]bool
}

func newFrontend(t testing.TB, a *authority, apiKey string) *frontend {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.issue(t.TempDir(), 1))
	if err != nil {
		t.Fatal(err)
	}
	f := &frontend{apiKey: apiKey, seen: map[int64]map[string]bool{}}
	plain := &http.Transport{Protocols: new(http.Protocols)}
	plain.Protocols.SetUnencryptedHTTP2(true)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: sitetest.Shared.HostPort()})
	// No FlushInterval: a flush that overtakes an answer of headers alone, as gRPC's errors are, takes its end away.
	proxy.Transport, proxy.ErrorLog = plain, log.New(io.Discard, "", 0)
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.admit(r) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "16")
			w.Header().Set("Grpc-Message", "Request unauthorized.")
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	f.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: x509.NewCertPool()}
	f.TLS.ClientCAs.AddCert(a.cert)
	if apiKey == "" {
		f.TLS.ClientAuth, f.TLS.VerifyConnection = tls.RequireAndVerifyClientCert, f.verify
	}
	f.EnableHTTP2 = true
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

// verify refuses a revoked certificate.
func (f *frontend) verify(state tls.ConnectionState) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if serial := state.PeerCertificates[0].SerialNumber.Int64(); serial == f.revoked {
		return fmt.Errorf("certificate %d is revoked", serial)
	}
	return nil
}

// admit notes which method was called with which certificate, and checks the API key.
func (f *frontend) admit(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	serial := int64(0)
	if certs := r.TLS.PeerCertificates; len(certs) > 0 {
		serial = certs[0].SerialNumber.Int64()
	}
	if f.seen[serial] == nil {
		f.seen[serial] = map[string]bool{}
	}
	f.seen[serial][r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]] = true
	return f.apiKey == "" || r.Header.Get("Authorization") == "Bearer "+f.apiKey
}

// called tells whether the method was called with that certificate.
func (f *frontend) called(serial int64, method string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[serial][method]
}

// revoke lets in nobody with that certificate any more, and ends all connections.
func (f *frontend) revoke(serial int64) {
	f.mu.Lock()
	f.revoked = serial
	f.mu.Unlock()
	f.CloseClientConnections()
}

func TestEveryProgramReachesTemporalByMutualTLSAndTakesUpARenewedCertificate(t *testing.T) {
	t.Parallel()
	worker, _ := sitetest.Program(t, "worker")
	receiver, _ := sitetest.Program(t, "kn-go-preemption")
	ctl, _ := sitetest.Program(t, "preemptctl")
	s := sitetest.New(t)
	s.Rules = []trigger.Rule{{Alarm: "cluster-cpu-above-80", Action: trigger.Preempt{Tag: "preemptible"}}}
	ca := newAuthority(t)
	front := newFrontend(t, ca, "")
	folder := t.TempDir()
	cert, key := ca.issue(folder, 2)
	address := front.Listener.Addr().String()
	env := []string{
		"TEMPORAL_URL=" + address, "TEMPORAL_TLS_SERVER_CA_CERT_PATH=" + ca.file,
		"TEMPORAL_TLS_CLIENT_CERT_PATH=" + cert, "TEMPORAL_TLS_CLIENT_KEY_PATH=" + key,
	}
	s.WorkerProcess(worker, env...)
	s.Polling()
	_, events := s.ReceiverProcess(receiver, env...)
	s.WantCtl(ctl, env, 0, "worker-", "doctor")
	if !front.called(2, "PollWorkflowTaskQueue") || !front.called(2, "StartWorkflowExecution") {
		t.Error("somebody did not go through the frontend")
	}

	profile := filepath.Join(folder, "temporal.toml")
	text := fmt.Sprintf("[profile.site]\naddress = %q\n[profile.site.tls]\nserver_ca_cert_path = %q\nclient_cert_path = %q\nclient_key_path = %q\n", address, ca.file, cert, key)
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.WantCtl(ctl, []string{"TEMPORAL_CONFIG_FILE=" + profile, "TEMPORAL_PROFILE=site"}, 0, "", "workflow", "list")
	s.WantCtl(ctl, env[:2], 1, "TEMPORAL_TLS_*", "workflow", "list")
	s.WantCtl(ctl, env[:1], 1, "cannot reach Temporal at "+address, "workflow", "list")
	s.WantCtl(ctl, []string{env[0], "TEMPORAL_TLS=true"}, 1, "certificate signed by unknown authority", "workflow", "list")

	ca.issue(folder, 3)
	front.revoke(2)
	s.Eventually("the worker polls with its new certificate", func() bool { return front.called(3, "PollWorkflowTaskQueue") })
	s.Eventually("the receiver is ready again", func() bool {
		resp, err := http.Get(events + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	s.WantCtl(ctl, env, 0, "worker-", "doctor")
}

func TestAnAPIKeyOpensTemporal(t *testing.T) {
	t.Parallel()
	worker, _ := sitetest.Program(t, "worker")
	ctl, _ := sitetest.Program(t, "preemptctl")
	s := sitetest.New(t)
	ca := newAuthority(t)
	address := newFrontend(t, ca, "secret").Listener.Addr().String()
	env := []string{"TEMPORAL_URL=" + address, "TEMPORAL_TLS_SERVER_CA_CERT_PATH=" + ca.file, "TEMPORAL_API_KEY=secret"}
	s.WorkerProcess(worker, env...)
	s.Polling()
	s.WantCtl(ctl, env, 0, "worker-", "doctor")
	s.WantCtl(ctl, append(env, "TEMPORAL_API_KEY=wrong"), 1, "TEMPORAL_API_KEY", "workflow", "list")
}
