// Package channel knows the addresses of the worker's channels, which are secrets, and sends to them by a library.
package channel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// Patience is how long one attempt may take, and maxHanging how many attempts of one channel may hang: the library takes no deadline.
const (
	Patience   = 30 * time.Second
	maxHanging = 8
)

// Checker says whether a host may be dialled.
type Checker interface {
	CheckHost(ctx context.Context, host string) error
}

// Error is a failed attempt. It tells no address.
type Error struct {
	Channel   string
	Err       error
	permanent bool
}

// Error returns what failed.
func (e *Error) Error() string { return fmt.Sprintf("channel %s: %v", e.Channel, e.Err) }

// Permanent reports whether another attempt would fail as well.
func (e *Error) Permanent() bool { return e.permanent }

// Book has the channels of a worker.
type Book struct {
	set   tell.Settings
	env   func(string) string
	hosts Checker
	gates map[string]chan struct{}

	mu   sync.Mutex
	last map[string]attempt
}

// attempt is the last one of a channel.
type attempt struct {
	at  time.Time
	err error
}

// New returns the channels of a file. env reads a variable. Its error joins one for each channel whose address cannot be
// read or used.
func New(set tell.Settings, env func(string) string, hosts Checker) (*Book, error) {
	b := &Book{set: set, env: env, hosts: hosts, gates: map[string]chan struct{}{}, last: map[string]attempt{}}
	var errs []error
	for _, c := range set.Channels {
		b.gates[c.Name] = make(chan struct{}, maxHanging)
		if err := b.usable(c); err != nil {
			errs = append(errs, fmt.Errorf("notifications: channel %s: %w", c.Name, err))
		}
	}
	return b, errors.Join(errs...)
}

func (b *Book) usable(c tell.Channel) error {
	address, err := b.read(c.URLFrom)
	if err != nil {
		return err
	}
	_, u, err := serviceFor(address)
	if err == nil && len(c.MailDomains) > 0 && u.Scheme != schemeMail {
		err = errors.New("mailDomains is for mail alone, and its address is not smtp://")
	}
	return err
}

// Settings returns what the file says.
func (b *Book) Settings() tell.Settings { return b.set }

// Send delivers a text to a channel, to the mail address where one is given. Its error is an *Error.
func (b *Book) Send(ctx context.Context, channel, to string, text tell.Text) error {
	err := b.send(ctx, channel, to, text)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last[channel] = attempt{time.Now(), err}
	return err
}

func (b *Book) send(ctx context.Context, name, to string, text tell.Text) error {
	var channel *tell.Channel
	for i := range b.set.Channels {
		if b.set.Channels[i].Name == name {
			channel = &b.set.Channels[i]
		}
	}
	if channel == nil {
		return &Error{Channel: name, Err: errors.New("the file has no such channel"), permanent: true}
	}
	address, err := b.read(channel.URLFrom)
	if err != nil {
		return &Error{Channel: name, Err: err} // the file may be there in a moment
	}
	service, u, err := serviceFor(address)
	if err != nil {
		return &Error{Channel: name, Err: err}
	}
	if host := dialled(u); host != "" && !proxied(u) {
		if err := b.hosts.CheckHost(ctx, host); err != nil {
			return &Error{Channel: name, Err: scrubbed(err, address)}
		}
	}
	params := types.Params{}
	if u.Scheme == schemeMail {
		params["subject"] = text.Title
		if to != "" {
			params["toaddresses"] = to
		}
	}
	if err := b.within(ctx, name, func() error { return service.Send(text.Body, &params) }); err != nil {
		return &Error{Channel: name, Err: scrubbed(err, address)}
	}
	return nil
}

var (
	errHangs = errors.New("it did not answer within 30 seconds")
	errBusy  = errors.New("earlier attempts still hang")
)

// sound calls f. A library that panics at what a hook answers ends no worker.
func sound(f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the library cannot handle what it answered")
		}
	}()
	return f()
}

// within waits for f no longer than Patience. As the library cannot be interrupted, what hangs is left behind, and counted.
func (b *Book) within(ctx context.Context, name string, f func() error) error {
	gate := b.gates[name]
	select {
	case gate <- struct{}{}:
	default:
		return errBusy
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-gate }()
		done <- sound(f)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(Patience):
		return errHangs
	case <-ctx.Done():
		return errHangs
	}
}
