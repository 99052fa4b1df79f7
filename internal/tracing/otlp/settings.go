package otlp

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// The protocols of OTLP that are spoken.
const (
	overHTTP = "http/protobuf"
	overGRPC = "grpc"
)

// Settings are what the standard variables say about tracing. The zero Settings are off.
type Settings struct {
	On       bool
	Protocol string // http/protobuf or grpc
	Endpoint string // URL to which spans are sent

	service  string
	resource []attribute.KeyValue
	headers  map[string]string // secrets
	sampler  sdktrace.Sampler
}

// Read reads the standard variables. Tracing is off unless OTEL_TRACES_EXPORTER is otlp, or an endpoint is set. Errors name
// every variable whose value we do not handle; of headers they tell no value.
func Read(get func(name string) string) (Settings, error) {
	r := reader{get: get}
	var s Settings
	if s.On = r.on(); !s.On {
		return s, errors.Join(r.errs...)
	}
	s.Protocol = r.protocol()
	s.Endpoint = r.endpoint(s.Protocol)
	s.service = get("OTEL_SERVICE_NAME")
	s.resource = r.resource()
	s.headers = r.headers()
	s.sampler = r.sampler()
	r.checkPropagators()
	r.checkCompression()
	r.checkFiles()
	r.checkNumbers()
	return s, errors.Join(r.errs...)
}

// reader collects what is wrong.
type reader struct {
	get  func(string) string
	errs []error
}

func (r *reader) problem(name, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s: %w", name, fmt.Errorf(format, args...)))
}

// ofTraces returns a variable of the exporter, and its name: the one for traces before the one for all signals.
func (r *reader) ofTraces(what string) (value, name string) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_" + what, "OTEL_EXPORTER_OTLP_" + what} {
		if value := r.get(name); value != "" {
			return value, name
		}
	}
	return "", ""
}

func (r *reader) on() bool {
	switch disabled := r.get("OTEL_SDK_DISABLED"); strings.ToLower(disabled) {
	case "true":
		return false
	case "", "false":
	default:
		r.problem("OTEL_SDK_DISABLED", "%q is neither true nor false", shown.Clip(disabled, 40))
		return false
	}
	switch exporter := r.get("OTEL_TRACES_EXPORTER"); exporter {
	case "otlp":
		return true
	case "none":
		return false
	case "":
		endpoint, _ := r.ofTraces("ENDPOINT")
		return endpoint != ""
	default:
		r.problem("OTEL_TRACES_EXPORTER", "%q is not supported: set otlp or none; a collector passes OTLP on in other formats", shown.Clip(exporter, 40))
		return false
	}
}

func (r *reader) protocol() string {
	value, name := r.ofTraces("PROTOCOL")
	switch value {
	case "", overHTTP:
		return overHTTP
	case overGRPC:
		return overGRPC
	}
	r.problem(name, "%q is not supported: set %s or %s", shown.Clip(value, 40), overHTTP, overGRPC)
	return overHTTP
}

// endpoint returns the URL to send to. Of the variable for all signals it is the base.
func (r *reader) endpoint(protocol string) string {
	value, name := r.ofTraces("ENDPOINT")
	if value == "" {
		if protocol == overGRPC {
			return "http://localhost:4317"
		}
		return "http://localhost:4318/v1/traces"
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		r.problem(name, "it is no URL such as http://collector:4318 or https://collector.example.org:4318")
		return ""
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		r.problem(name, "the URL has a user, a query or a fragment, which are not sent: put credentials into OTEL_EXPORTER_OTLP_HEADERS")
		return ""
	case protocol == overGRPC:
		u.Path = ""
	case name == "OTEL_EXPORTER_OTLP_ENDPOINT":
		u = u.JoinPath("v1/traces")
	case u.Path == "":
		u.Path = "/"
	}
	return u.String()
}

// pairs reads a list of name=value, separated by commas, with escaped values. Errors tell names only.
func (r *reader) pairs(variable string) (names []string, values map[string]string) {
	values = map[string]string{}
	for i, pair := range strings.Split(r.get(variable), ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		switch {
		case !found || name == "":
			r.problem(variable, "entry %d is not of the form name=value", i+1)
		case strings.ContainsFunc(name, notToken):
			r.problem(variable, "the name of entry %d has a character that is not allowed", i+1)
		case err != nil || strings.ContainsAny(plain, "\r\n\x00"):
			r.problem(variable, "the value of %s is not escaped as in a URL: write %%25 for %% and %%2C for a comma", shown.Clip(name, 60))
		default:
			names = append(names, name)
			values[name] = plain
		}
	}
	return names, values
}

// notToken reports whether a character may not be in the name of a header.
func notToken(c rune) bool {
	return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
}

// headers returns the headers for traces, or else those for all signals.
func (r *reader) headers() map[string]string {
	_, name := r.ofTraces("HEADERS")
	if name == "" {
		return nil
	}
	_, values := r.pairs(name)
	return values
}

func (r *reader) resource() (attrs []attribute.KeyValue) {
	names, values := r.pairs("OTEL_RESOURCE_ATTRIBUTES")
	for _, name := range names {
		attrs = append(attrs, attribute.String(name, values[name]))
	}
	return attrs
}

func (r *reader) sampler() sdktrace.Sampler {
	const variable = "OTEL_TRACES_SAMPLER"
	name := cmp.Or(r.get(variable), "parentbased_always_on")
	root, based := strings.CutPrefix(name, "parentbased_")
	var s sdktrace.Sampler
	switch root {
	case "always_on":
		s = sdktrace.AlwaysSample()
	case "always_off":
		s = sdktrace.NeverSample()
	case "traceidratio":
		s = sdktrace.TraceIDRatioBased(r.ratio())
	default:
		r.problem(variable, "%q is not supported: set always_on, always_off, traceidratio, or one of these behind parentbased_", shown.Clip(name, 40))
		return sdktrace.NeverSample()
	}
	if based {
		return sdktrace.ParentBased(s)
	}
	return s
}

// ratio is the share of traces that are sent, 1 unless the variable says less.
func (r *reader) ratio() float64 {
	const variable = "OTEL_TRACES_SAMPLER_ARG"
	value := r.get(variable)
	if value == "" {
		return 1
	}
	ratio, err := strconv.ParseFloat(value, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		r.problem(variable, "%q is no number from 0 to 1", shown.Clip(value, 40))
		return 0
	}
	return ratio
}

func (r *reader) checkPropagators() {
	const variable = "OTEL_PROPAGATORS"
	for name := range strings.SplitSeq(r.get(variable), ",") {
		if !slices.Contains([]string{"", "tracecontext", "baggage"}, strings.TrimSpace(name)) {
			r.problem(variable, "%q is not supported: traces are carried by tracecontext alone, and baggage is ignored", shown.Clip(name, 40))
		}
	}
}

func (r *reader) checkCompression() {
	value, name := r.ofTraces("COMPRESSION")
	if !slices.Contains([]string{"", "none", "gzip"}, value) {
		r.problem(name, "%q is not supported: set gzip or none", shown.Clip(value, 40))
	}
}

// checkFiles reads the certificates, because the exporter would go on without those that it cannot read.
func (r *reader) checkFiles() {
	if file, name := r.ofTraces("CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s has no certificate in PEM", file)
		}
		if err != nil {
			r.problem(name, "%w", err)
		}
	}
	cert, certName := r.ofTraces("CLIENT_CERTIFICATE")
	key, _ := r.ofTraces("CLIENT_KEY")
	switch {
	case cert == "" && key == "":
	case cert == "" || key == "":
		r.problem("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "a client's certificate and its key, OTEL_EXPORTER_OTLP_CLIENT_KEY, are set together")
	default:
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			r.problem(certName, "%w", err)
		}
	}
}

// checkNumbers looks at what the exporter reads itself, because it would take its default for what it cannot read.
func (r *reader) checkNumbers() {
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
	} {
		value := r.get(name)
		if n, err := strconv.Atoi(value); value != "" && (err != nil || n <= 0) {
			r.problem(name, "%q is no whole number above 0", shown.Clip(value, 40))
		}
	}
}
