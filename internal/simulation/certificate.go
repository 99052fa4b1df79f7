package simulation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // vSphere shows thumbprints in SHA-1
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// newCertificate makes a self-signed certificate for the loopback addresses, valid for a year.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("generate the simulator's TLS key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("generate the simulator's certificate serial: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "simulated vCenter"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign the simulator's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read back the simulator's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func (v *VCenter) certificate() tls.Certificate {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cert
}

// RenewCertificate gives the server another certificate, signed by itself as the first. All connections are closed; new
// ones show it.
func (v *VCenter) RenewCertificate() error {
	cert, err := newCertificate()
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.cert = cert
	v.mu.Unlock()
	v.DropConnections()
	v.Recover()
	return nil
}

// CertPEM is the server's certificate in PEM, to be trusted as a CA; nil with PlainHTTP.
func (v *VCenter) CertPEM() []byte {
	if v.options.PlainHTTP {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.certificate().Certificate[0]})
}

// Thumbprint is the SHA-1 of the server's certificate as vSphere shows it (AB:CD:...); empty with PlainHTTP.
func (v *VCenter) Thumbprint() string {
	if v.options.PlainHTTP {
		return ""
	}
	sum := sha1.Sum(v.certificate().Certificate[0]) //nolint:gosec // an identity to compare, not a signature
	return colons(sum[:])
}

// ThumbprintSHA256 is the SHA-256 of the server's certificate in the same form; empty with PlainHTTP.
func (v *VCenter) ThumbprintSHA256() string {
	if v.options.PlainHTTP {
		return ""
	}
	sum := sha256.Sum256(v.certificate().Certificate[0])
	return colons(sum[:])
}

func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}
