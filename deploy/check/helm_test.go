package check

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const (
	chartFolder = "../helm"
	chartConfig = chartFolder + "/files/preemption.yaml"
)

// installed returns the objects of the chart as helm install sends them, with values as YAML.
func installed(t *testing.T, values string) ([]object, error) {
	t.Helper()
	c, err := loader.LoadDir(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "any", Namespace: "vmware-preemption"}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	var objects []object
	for name, text := range files {
		if filepath.Ext(name) != ".yaml" || strings.TrimSpace(text) == "" {
			continue
		}
		found, err := documents([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		objects = append(objects, found...)
	}
	return objects, nil
}

// one returns the one object of a type.
func one[T object](t *testing.T, all []object) T {
	t.Helper()
	for _, o := range all {
		if got, ok := o.(T); ok {
			return got
		}
	}
	t.Fatalf("no object of type %T", *new(T))
	return *new(T)
}

func TestTheChartRendersToWhatTheBaseDoes(t *testing.T) {
	all, err := installed(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 4 {
		t.Errorf("%d objects, want 4", len(all))
	}
	got, want := one[*appsv1.Deployment](t, all), the[*appsv1.Deployment](t, base)
	got.Spec.Template.Annotations = nil // the checksum; the base has a hash in the name
	for i, v := range want.Spec.Template.Spec.Volumes {
		if v.ConfigMap != nil {
			want.Spec.Template.Spec.Volumes[i].ConfigMap.Name = "vsphere-preemption-config"
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the Deployment is\n%+v\nwant\n%+v", got, want)
	}
	if got, want := one[*networkingv1.NetworkPolicy](t, all), the[*networkingv1.NetworkPolicy](t, base); !reflect.DeepEqual(got, want) {
		t.Errorf("the NetworkPolicy is\n%+v\nwant\n%+v", got, want)
	}
	if got, want := one[*policyv1.PodDisruptionBudget](t, all), the[*policyv1.PodDisruptionBudget](t, base); !reflect.DeepEqual(got, want) {
		t.Errorf("the PodDisruptionBudget is\n%+v\nwant\n%+v", got, want)
	}
	if got, want := one[*corev1.ConfigMap](t, all).Data, the[*corev1.ConfigMap](t, base).Data; !reflect.DeepEqual(got, want) {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
}

func TestTheChartsFileIsTheBases(t *testing.T) {
	want, err := os.ReadFile("../base/preemption.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(chartConfig, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(chartConfig)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not deploy/base/preemption.yaml (%v): go test ./... -run TheChartsFile -update", chartConfig, err)
	}
}

func TestTheChartTakesTheOperatorsValues(t *testing.T) {
	all, err := installed(t, `
image: {digest: "sha256:`+strings.Repeat("0a", 32)+`"}
replicas: 1
vcenter: {url: https://vc.site.example, secretName: other}
config: "mode: observe\n"
extraEnv: [{name: NOTIFY_OPS, valueFrom: {secretKeyRef: {name: notify, key: ops}}}]
networkPolicy: {enabled: false}
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Errorf("%d objects, want a Deployment and a ConfigMap", len(all))
	}
	d := one[*appsv1.Deployment](t, all)
	c := d.Spec.Template.Spec.Containers[0]
	if *d.Spec.Replicas != 1 || !strings.HasSuffix(c.Image, "@sha256:"+strings.Repeat("0a", 32)) || c.Env[len(c.Env)-1].ValueFrom.SecretKeyRef.Key != "ops" {
		t.Errorf("%+v", d.Spec)
	}
	if got := one[*corev1.ConfigMap](t, all).Data["preemption.yaml"]; got != "mode: observe\n" {
		t.Errorf("the file is %q", got)
	}
}

func TestTheChartRefusesValuesThatCannotBe(t *testing.T) {
	for _, values := range []string{"replica: 1", "replicas: 0", "vcenter: {url: http://vc}", "image: {digest: abc}", "log: {format: xml}"} {
		if _, err := installed(t, values); err == nil {
			t.Errorf("%s passed", values)
		}
	}
}
