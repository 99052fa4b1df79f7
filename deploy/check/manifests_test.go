package check

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

const (
	name      = "kn-go-preemption"
	namespace = "vmware-functions"
)

// object is what all kinds have in common.
type object interface {
	metav1.Object
	apis.Defaultable
	apis.Validatable
}

// kinds are those that may be below deploy/. A new one states its type here first.
var kinds = map[string]func() object{
	"serving.knative.dev/v1 Service":     func() object { return &servingv1.Service{} },
	"eventing.knative.dev/v1 Trigger":    func() object { return &eventingv1.Trigger{} },
	"sources.knative.dev/v1 SinkBinding": func() object { return &sourcesv1.SinkBinding{} },
}

// decode reads one document as what it says it is, and nothing besides.
func decode(doc []byte) (object, error) {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &meta); err != nil {
		return nil, err
	}
	kind := meta.APIVersion + " " + meta.Kind
	make, known := kinds[kind]
	if !known {
		return nil, fmt.Errorf("kind %q is not known: add its type to kinds", kind)
	}
	o := make()
	if err := yaml.UnmarshalStrict(doc, o); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return o, nil
}

// read decodes every document of every manifest below deploy/.
func read(t *testing.T) []object {
	t.Helper()
	var all []object
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || entry.IsDir() || ext != ".yaml" && ext != ".yml" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
		for {
			doc, err := docs.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			o, err := decode(doc)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			all = append(all, o)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// the returns the one object of a type.
func the[T object](t *testing.T) T {
	t.Helper()
	var found []T
	for _, o := range read(t) {
		if got, ok := o.(T); ok {
			found = append(found, got)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, want one", len(found), *new(T))
	}
	return found[0]
}

func TestEveryManifestIsValidAndNamedAsDocumented(t *testing.T) {
	all := read(t)
	if len(all) != 3 {
		t.Errorf("%d objects, want a Service, a Trigger and a SinkBinding", len(all))
	}
	for _, o := range all {
		kind := fmt.Sprintf("%T", o)
		if o.GetName() != name || o.GetNamespace() != namespace || o.GetLabels()["workflow"] != "vsphere-preemption" {
			t.Errorf("%s: name %q, namespace %q, labels %v", kind, o.GetName(), o.GetNamespace(), o.GetLabels())
		}
		ctx := apis.WithinCreate(context.Background())
		o.SetDefaults(ctx) // as the webhook does first
		if err := o.Validate(ctx); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestWhatIsWrongIsFound(t *testing.T) {
	const head = "apiVersion: eventing.knative.dev/v1\nkind: Trigger\n"
	for name, tc := range map[string]struct{ doc, want string }{
		"a kind that nobody stated": {"apiVersion: v1\nkind: Secret\n", `"v1 Secret" is not known`},
		"a key that does not exist": {head + "spec: {filterz: []}\n", "filterz"},
		"a key given twice":         {head + "spec: {broker: a, broker: b}\n", "broker"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decode([]byte(tc.doc)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a word on %q", err, tc.want)
			}
		})
	}
}

func container(t *testing.T) corev1.Container {
	t.Helper()
	all := the[*servingv1.Service](t).Spec.Template.Spec.Containers
	if len(all) != 1 {
		t.Fatalf("%d containers, want one", len(all))
	}
	return all[0]
}

func TestOneInstanceAlways(t *testing.T) {
	got := the[*servingv1.Service](t).Spec.Template.Annotations
	if got[autoscaling.MinScaleAnnotationKey] != "1" || got[autoscaling.MaxScaleAnnotationKey] != "1" {
		t.Errorf("annotations %v", got)
	}
}

func TestTheContainerMayDoNothingButServe(t *testing.T) {
	c := container(t)
	s := c.SecurityContext
	if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.RunAsNonRoot == nil || !*s.RunAsNonRoot ||
		s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("security context %+v", s)
	}
	if c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("resources %+v", c.Resources)
	}
	for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != "/healthz" {
			t.Errorf("probe %+v", probe)
		}
	}
}

func TestTheBindingJoinsTheServiceAndTheBroker(t *testing.T) {
	b := the[*sourcesv1.SinkBinding](t).Spec
	s := b.Subject
	if s.APIVersion != "serving.knative.dev/v1" || s.Kind != "Service" || s.Name != name || s.Namespace != namespace {
		t.Errorf("subject %+v", s)
	}
	if r := b.Sink.Ref; r == nil || r.APIVersion != "eventing.knative.dev/v1" || r.Kind != "Broker" || r.Name != "default" || r.Namespace != namespace {
		t.Errorf("sink %+v", r)
	}
}
