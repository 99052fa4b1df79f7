package chaos

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
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// door stands before Temporal. It lets in those alone who bring a certificate of its authority that counts.
type door struct {
	t      *testing.T
	folder string // with ca.pem, cert.pem and key.pem of the clients
	port   int
	to     string

	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64 // of the clients' certificate that counts

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
	entered  map[int64]int // connections by the serial number of the certificate
}

func newDoor(t *testing.T, to string) *door {
	d := &door{t: t, folder: t.TempDir(), port: freePort(t), to: to, entered: map[int64]int{}}
	d.ca = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "chaos"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, key := d.sign(d.ca)
	d.key = key
	d.write("ca.pem", "CERTIFICATE", raw)
	d.renew()
	t.Cleanup(d.shut)
	return d
}

// sign signs by the authority's key, or its own certificate by the new key.
func (d *door) sign(c *x509.Certificate) (raw []byte, key *ecdsa.PrivateKey) {
	d.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		by := d.key
		if by == nil {
			by = key
		}
		raw, err = x509.CreateCertificate(rand.Reader, c, d.ca, &key.PublicKey, by)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return raw, key
}

func (d *door) write(name, kind string, raw []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.folder, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *door) issue() (raw []byte, key *ecdsa.PrivateKey) {
	d.serial++
	return d.sign(&x509.Certificate{
		SerialNumber: big.NewInt(d.serial), Subject: pkix.Name{CommonName: "chaos"}, NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
}

// renew opens the door with new certificates for both sides. The earlier ones count no more.
func (d *door) renew() {
	d.t.Helper()
	own, ownKey := d.issue()
	raw, key := d.issue()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write("cert.pem", "CERTIFICATE", raw)
	d.write("key.pem", "PRIVATE KEY", der)
	ca, err := os.ReadFile(filepath.Join(d.folder, "ca.pem"))
	if err != nil {
		d.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	counts := d.serial
	l, err := tls.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", d.port), &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{own}, PrivateKey: ownKey}}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		VerifyConnection: func(s tls.ConnectionState) error {
			if n := s.PeerCertificates[0].SerialNumber.Int64(); n != counts {
				return fmt.Errorf("certificate %d is revoked", n)
			}
			return nil
		},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listener, d.open = l, map[net.Conn]bool{}
	go d.serve(l)
}

func (d *door) serve(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go d.pass(in.(*tls.Conn))
	}
}

// pass passes on what one client and Temporal say.
func (d *door) pass(in *tls.Conn) {
	defer in.Close()
	if in.Handshake() != nil {
		return
	}
	out, err := net.Dial("tcp", d.to)
	if err != nil {
		return
	}
	defer out.Close()
	d.mu.Lock()
	d.entered[in.ConnectionState().PeerCertificates[0].SerialNumber.Int64()]++
	d.open[in] = true
	d.mu.Unlock()
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	}()
	_, _ = io.Copy(in, out)
}

// shut ends all connections and takes no more.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.listener.Close()
	for c := range d.open {
		_ = c.Close()
	}
}

// TestNothingIsLostWhenTemporalIsRestartedWithRenewedCertificates restarts Temporal, to which workers come by mutual TLS
// alone, in the middle of preemptions and restores. The workers' certificate is renewed with it, and the old one revoked.
func TestNothingIsLostWhenTemporalIsRestartedWithRenewedCertificates(t *testing.T) {
	t.Parallel()
	var d *door
	w := newWorld(t, seeded(t), site{temporal: startSQLite, tagged: enough(sized(1, 20)), worker: func(w *world, _ int, cmd *exec.Cmd) {
		if d == nil {
			d = newDoor(w.t, w.temporal.hostPort())
		}
		cmd.Env[0] = fmt.Sprintf("TEMPORAL_URL=127.0.0.1:%d", d.port)
		for name, file := range map[string]string{"SERVER_CA_CERT": "ca.pem", "CLIENT_CERT": "cert.pem", "CLIENT_KEY": "key.pem"} {
			cmd.Env = append(cmd.Env, "TEMPORAL_TLS_"+name+"_PATH="+filepath.Join(d.folder, file))
		}
	}})
	w.besiege("mutual TLS", sized(1, 20), []attack{{"Temporal restarts, certificates are renewed", func(w *world) {
		d.shut()
		w.temporal.restart()
		d.renew()
	}}})
	w.eventually("workers come with the last certificate", func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.entered[d.serial] == 0 {
			return fmt.Errorf("nobody came with certificate %d: %v", d.serial, d.entered)
		}
		return nil
	})
}
