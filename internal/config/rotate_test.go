package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair writes a client certificate with that serial number, and its key.
func writePair(t *testing.T, folder string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARenewedClientCertificateIsTakenUp(t *testing.T) {
	noProfile(t)
	folder := t.TempDir()
	writePair(t, folder, 1)
	got, err := ReadTemporal(Env{
		"TEMPORAL_TLS_CLIENT_CERT_PATH": filepath.Join(folder, "cert.pem"),
		"TEMPORAL_TLS_CLIENT_KEY_PATH":  filepath.Join(folder, "key.pem"),
	})
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, folder, 2)
	cert, err := got.Options.ConnectionOptions.TLS.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil || leaf.SerialNumber.Int64() != 2 {
		t.Errorf("the old certificate is presented: %v, %v", leaf.SerialNumber, err)
	}
}
