package vcenter

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

func writeSecret(t *testing.T, dir, user, password string) {
	t.Helper()
	for name, value := range map[string]string{"username": user, "password": password} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// loginServer accepts one password and counts attempts.
type loginServer struct {
	password string
	attempts []string
}

func (s *loginServer) login(u *url.Userinfo) error {
	p, _ := u.Password()
	s.attempts = append(s.attempts, p)
	if p == s.password {
		return nil
	}
	return soapFault(&types.InvalidLogin{}, "Login failure")
}

func TestWhitespaceAroundSecretsIsDropped(t *testing.T) {
	dir := t.TempDir()
	writeSecret(t, dir, " me@vsphere.local\r\n", "s3 cret\n")
	user, err := newCredentials(dir).read()
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := user.Password(); user.Username() != "me@vsphere.local" || p != "s3 cret" {
		t.Errorf("read %q with a password of %d characters", user.Username(), len(p))
	}
}

func TestMissingSecretNamesFileAndRemedy(t *testing.T) {
	dir := t.TempDir()
	err := newCredentials(dir).use(func(*url.Userinfo) error { t.Error("logged in without credentials"); return nil })
	if KindOf(err) != Credentials {
		t.Fatalf("kind %q of %v", KindOf(err), err)
	}
	for _, want := range []string{filepath.Join(dir, "username"), "VCENTER_SECRET_PATH", "username and password"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func TestEmptySecretIsMissing(t *testing.T) {
	dir := t.TempDir()
	writeSecret(t, dir, "me", "\n")
	if _, err := newCredentials(dir).read(); KindOf(err) != Credentials {
		t.Errorf("an empty password gives %v", err)
	}
}

func TestRejectedCredentialsAreNotHammered(t *testing.T) {
	dir := t.TempDir()
	writeSecret(t, dir, "me", "old-pw")
	c, server, now := newCredentials(dir), &loginServer{password: "new-pw"}, time.Now()
	c.now = func() time.Time { return now }

	attempts := map[int]int{} // second since the start to attempts so far
	for second := range 181 {
		if err := c.use(server.login); KindOf(err) != InvalidLogin {
			t.Fatalf("second %d: %v", second, err)
		}
		attempts[second] = len(server.attempts)
		now = now.Add(time.Second)
	}
	if attempts[0] != 1 || attempts[29] != 1 || attempts[30] != 2 || attempts[180] >= 5 {
		t.Errorf("attempts after 0, 29, 30, 180 s: %d %d %d %d; a lock-out comes with the fifth",
			attempts[0], attempts[29], attempts[30], attempts[180])
	}

	writeSecret(t, dir, "me", "new-pw\n")
	if err := c.use(server.login); err != nil {
		t.Errorf("the rotated password is not taken up at once: %v", err)
	}
}

func TestCredentialsRotatedDuringTheLoginAreTriedOnce(t *testing.T) {
	dir := t.TempDir()
	writeSecret(t, dir, "me", "old-pw")
	server := &loginServer{password: "new-pw"}
	err := newCredentials(dir).use(func(u *url.Userinfo) error {
		err := server.login(u)
		writeSecret(t, dir, "me", "new-pw")
		return err
	})
	if err != nil || len(server.attempts) != 2 {
		t.Errorf("%d attempts, %v", len(server.attempts), err)
	}
}

func TestAnOutageIsNoRejection(t *testing.T) {
	dir := t.TempDir()
	writeSecret(t, dir, "me", "pw")
	c, calls := newCredentials(dir), 0
	for range 3 {
		err := c.use(func(*url.Userinfo) error { calls++; return &statusError{code: 503} })
		if KindOf(err) != Unavailable {
			t.Fatal(err)
		}
	}
	if calls != 3 {
		t.Errorf("%d attempts of 3", calls)
	}
}

func TestPasswordIsInNoErrorText(t *testing.T) {
	dir := t.TempDir()
	writeSecret(t, dir, "me", "hunter2")
	c := newCredentials(dir)
	err := c.use(func(*url.Userinfo) error { return soapFault(&types.InvalidLogin{}, "Login failure") })
	var e *Error
	if !errors.As(err, &e) || e.Remedy == "" || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v names no remedy", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("the password is in the error")
	}
}
