package vcenter

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// After a rejected login the same user name and password are not sent again for firstRefusal, then for
// twice as long each time up to maxRefusal. vCenter's default locks an account after five failures in
// three minutes: at this pace there are at most three, and later two, which leaves room for another worker.
const (
	firstRefusal = 30 * time.Second
	maxRefusal   = 2 * time.Minute
)

// credentials reads user name and password from a folder at each login, so that a rotated secret is
// used without a restart, and remembers what vCenter rejected, never the password itself.
type credentials struct {
	folder string
	now    func() time.Time

	mu       sync.Mutex
	rejected [sha256.Size]byte
	until    time.Time
	pause    time.Duration
	err      error
}

func newCredentials(folder string) *credentials {
	return &credentials{folder: folder, now: time.Now}
}

// use logs in with the credentials in the folder. If vCenter rejects them and the files have changed
// in the meantime, the new ones are tried once.
func (c *credentials) use(login func(*url.Userinfo) error) error {
	user, err := c.read()
	if err != nil {
		return err
	}
	if err := c.refused(user); err != nil {
		return err
	}
	err = login(user)
	if !loginRejected(err) {
		c.accepted(err)
		return err
	}
	again, readErr := c.read()
	if readErr == nil && fingerprint(again) != fingerprint(user) {
		user, err = again, login(again)
		if !loginRejected(err) {
			c.accepted(err)
			return err
		}
	}
	return c.reject(user, err)
}

func (c *credentials) read() (*url.Userinfo, error) {
	user, err := c.file("username")
	if err != nil {
		return nil, err
	}
	password, err := c.file("password")
	if err != nil {
		return nil, err
	}
	return url.UserPassword(user, password), nil
}

func (c *credentials) file(name string) (string, error) {
	path := filepath.Join(c.folder, name)
	raw, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(raw)) == "" {
		err = errors.New("the file is empty")
	}
	if err != nil {
		return "", &Error{
			Op: "read", Object: path, Kind: Credentials, Err: fileReason(err),
			Remedy: "put vCenter's user name and password into the files username and password of that folder (VCENTER_SECRET_PATH)",
		}
	}
	return strings.TrimSpace(string(raw)), nil
}

// fileReason drops the path from a file error, because the message names it already.
func fileReason(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// refused returns the remembered error while the same credentials must not be sent again.
func (c *credentials) refused(user *url.Userinfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil || fingerprint(user) != c.rejected || !c.now().Before(c.until) {
		return nil
	}
	return c.err
}

func (c *credentials) reject(user *url.Userinfo, cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	mark := fingerprint(user)
	if c.err != nil && mark == c.rejected {
		c.pause = min(2*c.pause, maxRefusal)
	} else {
		c.pause = firstRefusal
	}
	c.rejected, c.until = mark, c.now().Add(c.pause)
	c.err = &Error{
		Op: "log in as", Object: user.Username(), Kind: InvalidLogin, Err: errors.New(reason(cause)),
		Remedy: fmt.Sprintf("correct the files in %s; they are read again at the next attempt, unchanged ones after %s", c.folder, c.pause),
	}
	return c.err
}

func (c *credentials) accepted(err error) {
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = nil
}

func fingerprint(user *url.Userinfo) [sha256.Size]byte {
	password, _ := user.Password()
	return sha256.Sum256([]byte(user.Username() + "\x00" + password))
}
