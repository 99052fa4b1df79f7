package otlp

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(env map[string]string) (Settings, error) {
	return Read(func(name string) string { return env[name] })
}

func TestTheVariablesTurnTracingOn(t *testing.T) {
	for name, c := range map[string]struct {
		env      map[string]string
		on       bool
		protocol string
		endpoint string
		sampler  string
	}{
		"nothing":                   {nil, false, "", "", ""},
		"only a name":               {map[string]string{"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "rubbish"}, false, "", "", ""},
		"none":                      {map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, false, "", "", ""},
		"disabled":                  {map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, false, "", "", ""},
		"otlp":                      {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, "http/protobuf", "http://localhost:4318/v1/traces", "ParentBased{root:AlwaysOnSampler,"},
		"an endpoint":               {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4318/base/"}, true, "http/protobuf", "https://c:4318/base/v1/traces", ""},
		"an endpoint for traces":    {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other"}, true, "http/protobuf", "http://c:4318/", ""},
		"a whole one for traces":    {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/api/spans"}, true, "http/protobuf", "http://c/api/spans", ""},
		"gRPC":                      {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, "grpc", "http://localhost:4317", ""},
		"gRPC with an endpoint":     {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, true, "grpc", "https://c:4317", ""},
		"the protocol for traces":   {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, "http/protobuf", "http://localhost:4318/v1/traces", ""},
		"a share":                   {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, true, "http/protobuf", "http://localhost:4318/v1/traces", "ParentBased{root:TraceIDRatioBased{0.25},"},
		"a share, whoever asks":     {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, true, "http/protobuf", "http://localhost:4318/v1/traces", "TraceIDRatioBased{0.25}"},
		"what others read and take": {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_PROPAGATORS": "tracecontext, baggage", "OTEL_SDK_DISABLED": "false", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_BSP_SCHEDULE_DELAY": "1000"}, true, "http/protobuf", "http://localhost:4318/v1/traces", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := read(c.env)
			if err != nil || s.On != c.on || s.Protocol != c.protocol || s.Endpoint != c.endpoint {
				t.Fatalf("%+v %v", s, err)
			}
			if c.sampler != "" && !strings.HasPrefix(s.sampler.Description(), c.sampler) {
				t.Errorf("sampler %s", s.sampler.Description())
			}
		})
	}
}

func TestAValueThatNobodyHandlesIsAnError(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for variable, values := range map[string][]string{
		"OTEL_SDK_DISABLED":                     {"perhaps"},
		"OTEL_TRACES_EXPORTER":                  {"zipkin", "console", "otlp,zipkin"},
		"OTEL_EXPORTER_OTLP_PROTOCOL":           {"http/json", "udp"},
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL":    {"http/json"},
		"OTEL_EXPORTER_OTLP_ENDPOINT":           {"collector:4317", "ftp://c", "http://", "http://u:hunter2@c", "http://c?token=hunter2", "http://c\x00"},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":    {"collector"},
		"OTEL_TRACES_SAMPLER":                   {"jaeger_remote", "parentbased_", "xray"},
		"OTEL_TRACES_SAMPLER_ARG":               {"2", "-1", "x", "NaN"},
		"OTEL_PROPAGATORS":                      {"b3", "tracecontext,jaeger", "none"},
		"OTEL_EXPORTER_OTLP_HEADERS":            {"hunter2", "a b=hunter2", "=hunter2", "a=%zzhunter2", "a=hunter2%0d%0a"},
		"OTEL_RESOURCE_ATTRIBUTES":              {"a"},
		"OTEL_EXPORTER_OTLP_COMPRESSION":        {"zstd"},
		"OTEL_EXPORTER_OTLP_TIMEOUT":            {"10s", "0", "-1"},
		"OTEL_BSP_MAX_QUEUE_SIZE":               {"many"},
		"OTEL_EXPORTER_OTLP_CERTIFICATE":        {"/no/such/file", noPEM},
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": {"/no/such/file"},
	} {
		for _, value := range values {
			env := map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio"}
			env[variable] = value
			_, err := read(env)
			if err == nil || !strings.HasPrefix(err.Error(), variable+": ") {
				t.Errorf("%s=%q: %v", variable, value, err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s tells a secret: %v", variable, err)
			}
		}
	}
}

func TestAllProblemsAreToldAtOnce(t *testing.T) {
	_, err := read(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "c", "OTEL_TRACES_SAMPLER": "x", "OTEL_EXPORTER_OTLP_PROTOCOL": "y"})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
}

func TestHeadersAreReadAsTheSpecificationSays(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"for all signals": {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20a%2Cb, x-tenant = one ,"},
		"for traces":      {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer%20a%2Cb,x-tenant=one", "OTEL_EXPORTER_OTLP_HEADERS": "other=1"},
	} {
		env["OTEL_TRACES_EXPORTER"] = "otlp"
		s, err := read(env)
		if want := map[string]string{"authorization": "Bearer a,b", "x-tenant": "one"}; err != nil || !maps.Equal(s.headers, want) {
			t.Errorf("%s: %v %v", name, s.headers, err)
		}
	}
}

func TestAProgramIsNamedByTheVariablesOrByItself(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"by itself":       {nil, "preemption-worker"},
		"by an attribute": {map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "service.name=site-a%20worker,deployment.environment.name=lab"}, "site-a worker"},
		"by its variable": {map[string]string{"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other"}, "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}
			maps.Copy(env, c.env)
			s, err := read(env)
			if err != nil {
				t.Fatal(err)
			}
			got := s.describe("preemption-worker", "v1").String()
			if !strings.Contains(got, "service.name="+c.want+",") || !strings.Contains(got, "service.version=v1") {
				t.Errorf("%s", got)
			}
		})
	}
}
