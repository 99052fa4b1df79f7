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
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/vsphere-preemption/vsphere-preemption/deploy/check/render"
)

// object is what all kinds have in common.
type object = metav1.Object

// kinds are those that may be below deploy/. A new one states its type here first.
var kinds = map[string]func() object{
	"apps/v1 Deployment":                      func() object { return &appsv1.Deployment{} },
	"apps/v1 StatefulSet":                     func() object { return &appsv1.StatefulSet{} },
	"v1 ConfigMap":                            func() object { return &corev1.ConfigMap{} },
	"v1 Service":                              func() object { return &corev1.Service{} },
	"policy/v1 PodDisruptionBudget":           func() object { return &policyv1.PodDisruptionBudget{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() object { return &networkingv1.NetworkPolicy{} },
	"monitoring.coreos.com/v1 PodMonitor":     func() object { return &monitoringv1.PodMonitor{} },
	"monitoring.coreos.com/v1 PrometheusRule": func() object { return &monitoringv1.PrometheusRule{} },
	"serving.knative.dev/v1 Service":          func() object { return &servingv1.Service{} },
	"eventing.knative.dev/v1 Trigger":         func() object { return &eventingv1.Trigger{} },
	"sources.knative.dev/v1 SinkBinding":      func() object { return &sourcesv1.SinkBinding{} },
}

// decode reads one document as what it says it is, and nothing besides.
func decode(doc []byte) (object, error) {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &meta); err != nil {
		return nil, err
	}
	kind := meta.APIVersion + " " + meta.Kind
	make := kinds[kind]
	if make == nil {
		return nil, fmt.Errorf("kind %q is not known: add its type to kinds", kind)
	}
	o := make()
	if err := strict(doc, o); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return o, nil
}

// strict reads as Kubernetes itself does with strict field validation: unlike encoding/json it tells cases apart.
func strict(doc []byte, into any) error {
	raw, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return err
	}
	unknown, err := json.UnmarshalStrict(raw, into)
	return errors.Join(append(unknown, err)...)
}

// documents decodes every document of a stream.
func documents(raw []byte) (all []object, err error) {
	docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		o, err := decode(doc)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
}

// folders lists those below deploy/ that kubectl apply -k takes.
func folders(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("../*/kustomization.yaml")
	if err != nil || len(all) < 4 {
		t.Fatalf("%d kustomizations below deploy/: %v", len(all), err)
	}
	for i := range all {
		all[i] = filepath.Dir(all[i])
	}
	return all
}

// rendered returns the objects of a folder as kubectl apply -k sends them.
func rendered(t *testing.T, folder string) []object {
	t.Helper()
	raw, err := render.Folder(folder)
	if err != nil {
		t.Fatal(err)
	}
	all, err := documents(raw)
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	return all
}

// the returns the one object of a type that a folder renders to.
func the[T object](t *testing.T, folder string) T {
	t.Helper()
	var found []T
	for _, o := range rendered(t, folder) {
		if got, ok := o.(T); ok {
			found = append(found, got)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: %d objects of type %T, want one", folder, len(found), *new(T))
	}
	return found[0]
}

func TestEveryFolderRendersToWhatKubernetesReads(t *testing.T) {
	for _, folder := range folders(t) {
		seen := map[string]bool{}
		for _, o := range rendered(t, folder) {
			id := fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName())
			if seen[id] || o.GetNamespace() == "" || o.GetLabels()["app.kubernetes.io/part-of"] != "vsphere-preemption" {
				t.Errorf("%s: %s is there twice, has no namespace, or does not say whose part it is: %v", folder, id, o.GetLabels())
			}
			seen[id] = true
		}
	}
}

// Rendering would pass over a key given twice, so that the files themselves are read too.
func TestEveryFileIsAManifestOfAFolder(t *testing.T) {
	for _, folder := range folders(t) {
		raw, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var k types.Kustomization
		if err := strict(raw, &k); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
		err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".yaml" || filepath.Base(path) == "kustomization.yaml" {
				return err
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if name := filepath.Base(path); slices.Contains(k.Resources, name) {
				_, err = documents(raw)
			} else if strings.Contains("\n"+string(raw), "\napiVersion:") {
				err = errors.New("its folder's kustomization does not name it")
			}
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsWrongIsFound(t *testing.T) {
	const head = "apiVersion: eventing.knative.dev/v1\nkind: Trigger\n"
	for name, tc := range map[string]struct{ doc, want string }{
		"a kind that nobody stated":            {"apiVersion: v1\nkind: Secret\n", `"v1 Secret" is not known`},
		"a key that does not exist":            {head + "spec: {filterz: []}\n", "filterz"},
		"a key given twice":                    {head + "spec: {broker: a, broker: b}\n", "broker"},
		"a key of the wrong case, deep inside": {"apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{livenessprobe: {}}]}}}\n", "livenessprobe"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := documents([]byte(tc.doc)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a word on %q", err, tc.want)
			}
		})
	}
}

// The webhooks of Knative do the same.
func TestKnativeTakesItsObjects(t *testing.T) {
	all := rendered(t, knative)
	if len(all) != 3 {
		t.Errorf("%d objects, want a Service, a Trigger and a SinkBinding", len(all))
	}
	if _, first := all[0].(*sourcesv1.SinkBinding); !first {
		t.Errorf("%T comes first, want the binding: else the first revision has no K_SINK", all[0])
	}
	for _, o := range all {
		kind := fmt.Sprintf("%T", o)
		if o.GetName() != receiver || o.GetNamespace() != "vmware-functions" || o.GetLabels()["workflow"] != "vsphere-preemption" {
			t.Errorf("%s: name %q, namespace %q, labels %v", kind, o.GetName(), o.GetNamespace(), o.GetLabels())
		}
		ctx := apis.WithinCreate(context.Background())
		o.(apis.Defaultable).SetDefaults(ctx) // as the webhook does first
		if err := o.(apis.Validatable).Validate(ctx); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
