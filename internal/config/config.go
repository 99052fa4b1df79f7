// Package config reads what an operator sets: connections from the environment, behaviour from the one
// YAML file. It validates everything at once, so that a program starts with settings that hold or names
// every one that does not. It opens no connection and reads no variable but those it is given. Of ours it
// imports the root contract, policy, remedy and trigger; it must not import preempt, remediate, vcenter or
// notify: the programs put those together from the plain values here.
package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The defaults of the environment.
const (
	DefaultHTTPAddr   = ":8080"
	DefaultSecretPath = "/var/bindings/vsphere"
	formatJSON        = "json"
	formatText        = "text"
)

// Env is a program's environment. An empty variable counts as one that is not set.
type Env map[string]string

// Environ makes an Env of a list as os.Environ returns it. Of a repeated name the last one holds.
func Environ(list []string) Env {
	env := make(Env, len(list))
	for _, entry := range list {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			env[name] = value
		}
	}
	return env
}

// Get returns a variable without surrounding white space, "" where it is not set.
func (e Env) Get(name string) string { return strings.TrimSpace(e[name]) }

// LookupEnv returns a variable and whether it is set, for envconfig.
func (e Env) LookupEnv(name string) (string, bool) {
	value := e[name]
	return value, value != ""
}

// Environ lists the variables as name=value, sorted, for envconfig.
func (e Env) Environ() []string {
	list := make([]string, 0, len(e))
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// VCenter says which vCenter to talk to and how. It holds no secret.
type VCenter struct {
	URL        string
	SecretPath string // folder with the files username and password
	Insecure   bool
	CAFile     string
	Thumbprint string
}

// Log says how a program logs.
type Log struct {
	Format string // json or text
	Debug  bool
}

// HTTP says where a program answers for its health.
type HTTP struct {
	Addr     string
	Explicit bool // asked for, so that a taken address is an error
}

// Worker is the configuration of the worker.
type Worker struct {
	Temporal Temporal
	VCenter  VCenter
	Log      Log
	HTTP     HTTP
	UI       UI
	Path     string // of the YAML file; "" for none
	File     File
}

// LoadWorker reads the worker's settings: the environment, and the YAML file at path or, where that is
// empty, at PREEMPTION_CONFIG. Its error joins one error per problem, each naming the variable, or the
// line and key, and what it wants.
func LoadWorker(env Env, path string) (Worker, error) {
	r := reader{env: env}
	w := Worker{Path: path, File: DefaultFile()}
	if w.Path == "" {
		w.Path = env.Get("PREEMPTION_CONFIG")
	}
	w.Temporal = r.temporalRequired()
	w.VCenter = r.vcenter()
	r.require("VCENTER_URL", w.VCenter.URL, "the address of vCenter, such as https://vcenter.example.com/sdk")
	w.Log = r.log(formatJSON)
	w.HTTP, w.UI = r.http(), r.ui()
	if w.Path != "" {
		file, err := ReadFile(w.Path)
		r.errs = append(r.errs, split(err)...)
		w.File = file
	}
	w.File.Rules = append(r.environmentRule(w.File, false), w.File.Rules...)
	return w, errors.Join(r.errs...)
}

// ReadLog reads LOG_FORMAT and DEBUG for a program whose log has that format by default.
func ReadLog(env Env, format string) (Log, error) {
	r := reader{env: env}
	l := r.log(format)
	return l, errors.Join(r.errs...)
}

// Problems lists the single errors that an error of this package joins.
func Problems(err error) []error { return split(err) }

func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, split(e)...)
	}
	return all
}

// reader reads variables and collects what is wrong with them.
type reader struct {
	env   Env
	errs  []error
	wrong map[string]bool // the variables that have a problem
}

func (r *reader) problem(name, format string, args ...any) {
	if r.wrong == nil {
		r.wrong = map[string]bool{}
	}
	r.wrong[name] = true
	r.errs = append(r.errs, fmt.Errorf(name+": "+format, args...))
}

func (r *reader) require(name, value, wants string) {
	if value == "" && !r.named(name) {
		r.problem(name, "not set; set it to %s", wants)
	}
}

// named reports whether a problem of the variable was noted already.
func (r *reader) named(name string) bool {
	return r.wrong[name]
}

func (r *reader) bool(name string) bool {
	value := r.env.Get(name)
	if value == "" {
		return false
	}
	on, err := strconv.ParseBool(strings.ToLower(value))
	if err != nil {
		r.problem(name, "%q is neither true nor false", value)
	}
	return on
}

func (r *reader) log(format string) Log {
	l := Log{Format: format, Debug: r.bool("DEBUG")}
	if value := strings.ToLower(r.env.Get("LOG_FORMAT")); value != "" {
		l.Format = value
	}
	if l.Format != formatJSON && l.Format != formatText {
		r.problem("LOG_FORMAT", "%q is not one of json, text", l.Format)
	}
	return l
}

func (r *reader) http() HTTP {
	value := r.env.Get("HTTP_ADDR")
	if value == "" {
		return HTTP{Addr: DefaultHTTPAddr}
	}
	if err := checkAddress(value, true); err != nil {
		r.problem("HTTP_ADDR", "%q %w; set it to host:port or :port, such as :8080", value, err)
	}
	return HTTP{Addr: value, Explicit: true}
}

// vcenter reads how to reach vCenter. Texts never repeat the URL, which may hold a password.
func (r *reader) vcenter() VCenter {
	v := VCenter{
		URL: r.env.Get("VCENTER_URL"), SecretPath: r.env.Get("VCENTER_SECRET_PATH"),
		Insecure: r.bool("VCENTER_INSECURE"),
		CAFile:   r.env.Get("VCENTER_CA_FILE"), Thumbprint: r.env.Get("VCENTER_THUMBPRINT"),
	}
	if v.SecretPath == "" {
		v.SecretPath = DefaultSecretPath
	}
	if _, ok := parseURL(v.URL); v.URL != "" && !ok {
		r.problem("VCENTER_URL", "it is no address of a vCenter; set it to https://<host>/sdk")
	}
	if v.Thumbprint != "" && !usableThumbprint(v.Thumbprint) {
		r.problem("VCENTER_THUMBPRINT", "%q is no thumbprint; set it to the SHA-1 or SHA-256 of vCenter's certificate in hex: 20 or 32 bytes, colons optional", v.Thumbprint)
	}
	if v.CAFile != "" {
		if _, err := os.Stat(v.CAFile); err != nil {
			r.problem("VCENTER_CA_FILE", "%w; set it to a PEM file with the authority that signed vCenter's certificate", err)
		}
	}
	var trust []string
	for name, set := range map[string]bool{"VCENTER_INSECURE": v.Insecure, "VCENTER_CA_FILE": v.CAFile != "", "VCENTER_THUMBPRINT": v.Thumbprint != ""} {
		if set {
			trust = append(trust, name)
		}
	}
	if slices.Sort(trust); len(trust) > 1 {
		r.problem(strings.Join(trust, ", "), "they exclude each other; set one of them")
	}
	return v
}

// Host returns host and port of vCenter, for logs: without anything else the URL may hold.
func (v VCenter) Host() string {
	u, ok := parseURL(v.URL)
	if !ok {
		return ""
	}
	return u.Host
}

func parseURL(raw string) (u *url.URL, ok bool) {
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	return u, err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != ""
}

func usableThumbprint(s string) bool {
	raw, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(s))
	return err == nil && (len(raw) == 20 || len(raw) == 32)
}

// checkAddress checks host:port; anyHost allows an empty host, to listen on.
func checkAddress(address string, anyHost bool) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("is not of the form host:port")
	}
	if host == "" && !anyHost {
		return errors.New("names no host")
	}
	if strings.ContainsAny(host, "/@ ") {
		return errors.New("is not of the form host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || (n == 0 && !anyHost) {
		return errors.New("has no port from 1 to 65535")
	}
	return nil
}
