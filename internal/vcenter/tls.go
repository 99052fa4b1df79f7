package vcenter

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// tlsConfig returns which certificates of the vCenter at host are trusted.
func tlsConfig(cfg Config, host string) (*tls.Config, error) {
	set := 0
	for _, on := range []bool{cfg.Insecure, cfg.CAFile != "", cfg.Thumbprint != ""} {
		if on {
			set++
		}
	}
	if set > 1 {
		return nil, errors.New("VCENTER_INSECURE, VCENTER_CA_FILE and VCENTER_THUMBPRINT exclude each other; set one of them")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case cfg.Insecure:
		conf.InsecureSkipVerify = true
	case cfg.CAFile != "":
		if _, err := loadCA(cfg.CAFile); err != nil {
			return nil, err
		}
		conf.InsecureSkipVerify = true // verified by the file as it then is
		conf.VerifyConnection = authority{file: cfg.CAFile, host: host}.verify
	case cfg.Thumbprint != "":
		pin, err := parseThumbprint(cfg.Thumbprint)
		if err != nil {
			return nil, err
		}
		conf.InsecureSkipVerify = true // the pin is stricter than the chain
		conf.VerifyConnection = pin.verify
	}
	return conf, nil
}

func loadCA(file string) (*x509.CertPool, error) {
	fail := func(err error) error {
		return &Error{
			Op: "read", Object: file, Kind: Certificate, Err: err,
			Remedy: "VCENTER_CA_FILE must name a PEM file with the certificate authority that signed vCenter's certificate",
		}
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fail(fileReason(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fail(errors.New("no certificate in it"))
	}
	return pool, nil
}

// authority trusts what the file holds at the time of a connection: the file may be renewed while the program runs.
type authority struct{ file, host string }

// verify accepts a connection to host whose certificate the file's authority signed.
func (a authority) verify(state tls.ConnectionState) error {
	pool, err := loadCA(a.file)
	if err != nil {
		return err
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("vCenter presented no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, DNSName: a.host})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// thumbprint is the SHA-1 or SHA-256 of a certificate.
type thumbprint []byte

func parseThumbprint(s string) (thumbprint, error) {
	raw, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(strings.TrimSpace(s)))
	if err != nil || (len(raw) != sha1.Size && len(raw) != sha256.Size) {
		return nil, errors.New("VCENTER_THUMBPRINT must be a SHA-1 or SHA-256 thumbprint in hex: 20 or 32 bytes, colons optional")
	}
	return raw, nil
}

// verify accepts a connection whose certificate has this thumbprint.
func (t thumbprint) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("vCenter presented no certificate")
	}
	cert := state.PeerCertificates[0]
	got := sha256Of(cert)
	if len(t) == sha1.Size {
		sum := sha1.Sum(cert.Raw)
		got = sum[:]
	}
	if string(got) != string(t) {
		return &pinError{want: t, got: got}
	}
	return nil
}

func (t thumbprint) String() string {
	parts := make([]string, len(t))
	for i, b := range t {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

func sha256Of(cert *x509.Certificate) thumbprint {
	sum := sha256.Sum256(cert.Raw)
	return sum[:]
}

// pinError means that vCenter presented another certificate than the pinned one.
type pinError struct {
	want, got thumbprint
}

func (e *pinError) Error() string {
	return fmt.Sprintf("the certificate has thumbprint %s, expected %s", e.got, e.want)
}

// untrusted reports whether err is about vCenter's certificate, and the thumbprint it presented if known.
func untrusted(err error) (presented string, ok bool) {
	var pin *pinError
	if errors.As(err, &pin) {
		return pin.got.String(), true
	}
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		if len(verification.UnverifiedCertificates) > 0 {
			presented = sha256Of(verification.UnverifiedCertificates[0]).String()
		}
		return presented, true
	}
	return "", false
}

// certificateRemedy is what an operator can do about an untrusted certificate.
func certificateRemedy(presented string) string {
	pin := "VCENTER_THUMBPRINT to its thumbprint"
	if presented != "" {
		pin = "VCENTER_THUMBPRINT=" + presented + " if that is really your vCenter's"
	}
	return "set VCENTER_CA_FILE to the CA's certificate, or " + pin + ", or, for a test only, VCENTER_INSECURE=true"
}
