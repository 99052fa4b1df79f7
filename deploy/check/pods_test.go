package check

import (
	"fmt"
	"os"
	"slices"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// The folders.
const (
	base       = "../base"
	standalone = "../standalone"
	knative    = "../knative"
	monitoring = "../monitoring"
)

// receiver is the name of everything of the receiver.
const receiver = "kn-go-preemption"

// pod is one that an object makes.
type pod struct {
	of     string
	labels map[string]string
	meta   metav1.ObjectMeta
	spec   corev1.PodSpec
}

// pods lists what a folder makes run.
func pods(t *testing.T, folder string) (all []pod) {
	t.Helper()
	for _, o := range rendered(t, folder) {
		p := pod{of: fmt.Sprintf("%s: %T", folder, o)}
		var selector *metav1.LabelSelector
		switch o := o.(type) {
		case *appsv1.Deployment:
			p.meta, p.spec, selector = o.Spec.Template.ObjectMeta, o.Spec.Template.Spec, o.Spec.Selector
		case *appsv1.StatefulSet:
			p.meta, p.spec, selector = o.Spec.Template.ObjectMeta, o.Spec.Template.Spec, o.Spec.Selector
		case *servingv1.Service:
			p.meta, p.spec = o.Spec.Template.ObjectMeta, o.Spec.Template.Spec.PodSpec
		default:
			continue
		}
		if selector != nil && !selects(t, selector, p.meta.Labels) {
			t.Errorf("%s does not select its own pods", p.of)
		}
		p.labels = p.meta.Labels
		all = append(all, p)
	}
	return all
}

// theContainer returns the one container of the one pod of a folder.
func theContainer(t *testing.T, folder string) corev1.Container {
	t.Helper()
	all := pods(t, folder)
	if len(all) != 1 || len(all[0].spec.Containers) != 1 || len(all[0].spec.InitContainers) != 0 {
		t.Fatalf("%s: want one pod with one container, got %+v", folder, all)
	}
	return all[0].spec.Containers[0]
}

func selects(t *testing.T, selector *metav1.LabelSelector, of map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return !s.Empty() && s.Matches(labels.Set(of))
}

func TestEveryPodIsRestrictedAsPodSecuritySaysAndMore(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	count := 0
	for _, folder := range folders(t) {
		for _, p := range pods(t, folder) {
			count++
			for _, result := range evaluator.EvaluatePod(level, &p.meta, &p.spec) {
				if !result.Allowed {
					t.Errorf("%s: %s: %s", p.of, result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
			if a := p.spec.AutomountServiceAccountToken; a == nil || *a {
				t.Errorf("%s: it gets a token of Kubernetes that it does not need", p.of)
			}
			if l := p.spec.EnableServiceLinks; l == nil || *l {
				t.Errorf("%s: Services nearby may set its variables", p.of)
			}
			for _, c := range p.spec.Containers {
				if s := c.SecurityContext; s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
					t.Errorf("%s: its root file system can be written", p.of)
				}
				if c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: resources %+v", p.of, c.Resources)
				}
			}
		}
	}
	if count < 3 {
		t.Errorf("%d pods were looked at, want the worker's, the standalone's and the receiver's", count)
	}
}

func TestAPodThatMayMoreIsFound(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := pods(t, base)[0]
	p.spec.Containers[0].SecurityContext.Capabilities = nil
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &p.meta, &p.spec))
	if result.Allowed {
		t.Error("a container with capabilities passed")
	}
}

func TestOnlyReadinessDependsOnOthers(t *testing.T) {
	for folder, readiness := range map[string]string{base: "/readyz", standalone: "/readyz", knative: "/healthz"} {
		c := theContainer(t, folder)
		for _, probe := range []struct {
			name, path string
			probe      *corev1.Probe
		}{{"startup", "/healthz", c.StartupProbe}, {"liveness", "/healthz", c.LivenessProbe}, {"readiness", readiness, c.ReadinessProbe}} {
			if folder == knative && probe.name == "startup" {
				continue // Knative starts a pod by its readiness
			}
			if probe.probe == nil || probe.probe.HTTPGet == nil || probe.probe.HTTPGet.Path != probe.path {
				t.Errorf("%s: %s probe %+v, want %s", folder, probe.name, probe.probe, probe.path)
				continue
			}
			if port := probe.probe.HTTPGet.Port.String(); folder != knative && port != c.Ports[0].Name {
				t.Errorf("%s: %s probe asks port %s, want %s", folder, probe.name, port, c.Ports[0].Name)
			}
		}
	}
}

func TestTheWorkerIsNamedAndMountedAsDocumented(t *testing.T) {
	d := the[*appsv1.Deployment](t, base)
	if d.Name != "vsphere-preemption-worker" || d.Namespace != "vmware-preemption" || *d.Spec.Replicas != 2 {
		t.Errorf("deployment %s/%s with %d replicas", d.Namespace, d.Name, *d.Spec.Replicas)
	}
	mounted(t, d.Spec.Template.Spec, the[*corev1.ConfigMap](t, base))
}

func TestTheStandaloneIsOnePodWithOneVolumeThatOutlivesIt(t *testing.T) {
	s := the[*appsv1.StatefulSet](t, standalone)
	if *s.Spec.Replicas != 1 || len(s.Spec.VolumeClaimTemplates) != 1 || s.Spec.PersistentVolumeClaimRetentionPolicy != nil {
		t.Errorf("replicas %d, claims %v, retention %v", *s.Spec.Replicas, s.Spec.VolumeClaimTemplates, s.Spec.PersistentVolumeClaimRetentionPolicy)
	}
	mounted(t, s.Spec.Template.Spec, the[*corev1.ConfigMap](t, standalone))
	c := s.Spec.Template.Spec.Containers[0]
	i := slices.Index(c.Args, "--data")
	if i < 0 || i+1 == len(c.Args) || !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.Name == s.Spec.VolumeClaimTemplates[0].Name && m.MountPath == c.Args[i+1]
	}) {
		t.Errorf("arguments %v do not name the volume among %v", c.Args, c.VolumeMounts)
	}
	if g := s.Spec.Template.Spec.SecurityContext.FSGroup; g == nil || *g == 0 {
		t.Error("nobody but root can write to the volume")
	}
	service := the[*corev1.Service](t, standalone)
	if s.Spec.ServiceName != service.Name || !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(s.Spec.Template.Labels)) ||
		service.Spec.Ports[0].TargetPort.String() != c.Ports[0].Name {
		t.Errorf("the service %+v is not that of the pod", service.Spec)
	}
}

// mounted checks that the secret and the file are where the variables say.
func mounted(t *testing.T, spec corev1.PodSpec, file *corev1.ConfigMap) {
	t.Helper()
	env := map[string]string{}
	for _, e := range spec.Containers[0].Env {
		env[e.Name] = e.Value
	}
	at := map[string]string{}
	for _, m := range spec.Containers[0].VolumeMounts {
		at[m.Name] = m.MountPath
	}
	var secret, config bool
	for _, v := range spec.Volumes {
		switch {
		case v.Secret != nil:
			secret = v.Secret.SecretName == "vsphere-credentials" && at[v.Name] == "/var/bindings/vsphere" && env["VCENTER_SECRET_PATH"] == at[v.Name]
		case v.ConfigMap != nil:
			_, there := file.Data["preemption.yaml"]
			config = there && v.ConfigMap.Name == file.Name && env["PREEMPTION_CONFIG"] == at[v.Name]+"/preemption.yaml"
		}
	}
	if !secret || !config {
		t.Errorf("the secret is where the variables say: %v; the file: %v", secret, config)
	}
}

func TestADrainLeavesAWorkerAndIsNeverBlockedByAnAbsentVCenter(t *testing.T) {
	b := the[*policyv1.PodDisruptionBudget](t, base).Spec
	if !selects(t, b.Selector, pods(t, base)[0].labels) || b.MinAvailable == nil || b.MinAvailable.IntValue() != 1 {
		t.Errorf("budget %+v", b)
	}
	if p := b.UnhealthyPodEvictionPolicy; p == nil || *p != policyv1.AlwaysAllow {
		t.Error("pods that are not ready block the drain of a node")
	}
}

func TestTheNetworkPolicyAllowsWhatTheProgramDials(t *testing.T) {
	for folder, want := range map[string][]string{
		base:       {"TCP 53", "TCP 443", "TCP 7233", "TCP 80", "TCP 8080", "TCP 8443", "UDP 53"},
		standalone: {"TCP 53", "TCP 443", "TCP 80", "TCP 8080", "TCP 8443", "UDP 53"},
	} {
		n := the[*networkingv1.NetworkPolicy](t, folder).Spec
		if !selects(t, &n.PodSelector, pods(t, folder)[0].labels) || len(n.PolicyTypes) != 2 {
			t.Errorf("%s: it selects %v, for %v", folder, n.PodSelector, n.PolicyTypes)
		}
		var got []string
		for _, rule := range n.Egress {
			for _, port := range rule.Ports {
				got = append(got, fmt.Sprintf("%s %s", *port.Protocol, port.Port.String()))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: egress %v, want %v", folder, got, want)
		}
		in := n.Ingress
		if len(in) != 1 || len(in[0].Ports) != 1 || in[0].Ports[0].Port.IntValue() != int(theContainer(t, folder).Ports[0].ContainerPort) {
			t.Errorf("%s: ingress %+v", folder, in)
		}
	}
}

func TestTheMonitorsFindThePods(t *testing.T) {
	found := map[string]int{}
	for _, o := range rendered(t, monitoring) {
		m, ok := o.(*monitoringv1.PodMonitor)
		if !ok {
			continue
		}
		for _, folder := range []string{base, standalone, knative} {
			p := pods(t, folder)[0]
			namespace := rendered(t, folder)[0].GetNamespace()
			in := m.Spec.NamespaceSelector.MatchNames
			if len(in) == 0 {
				in = []string{m.Namespace}
			}
			name := servingv1.UserPortName
			if folder != knative {
				name = p.spec.Containers[0].Ports[0].Name
			}
			for _, e := range m.Spec.PodMetricsEndpoints {
				if selects(t, &m.Spec.Selector, p.labels) && slices.Contains(in, namespace) && *e.Port == name && e.Path == "/metrics" {
					found[folder]++
				}
			}
		}
	}
	for _, folder := range []string{base, standalone, knative} {
		if found[folder] != 1 {
			t.Errorf("%s is scraped %d times", folder, found[folder])
		}
	}
	if _, err := os.Stat(monitoring + "/alerts.yaml"); err == nil {
		the[*monitoringv1.PrometheusRule](t, monitoring) // the kustomization names it
	}
}

func TestTheReceiverIsOneInstanceAlways(t *testing.T) {
	got := the[*servingv1.Service](t, knative).Spec.Template.Annotations
	if got[autoscaling.MinScaleAnnotationKey] != "1" || got[autoscaling.MaxScaleAnnotationKey] != "1" {
		t.Errorf("annotations %v", got)
	}
}

func TestTheBindingJoinsTheServiceAndTheBroker(t *testing.T) {
	b := the[*sourcesv1.SinkBinding](t, knative).Spec
	s := b.Subject
	if s.APIVersion != "serving.knative.dev/v1" || s.Kind != "Service" || s.Name != receiver || s.Namespace != "vmware-functions" {
		t.Errorf("subject %+v", s)
	}
	if r := b.Sink.Ref; r == nil || r.APIVersion != "eventing.knative.dev/v1" || r.Kind != "Broker" || r.Name != "default" || r.Namespace != "vmware-functions" {
		t.Errorf("sink %+v", r)
	}
}
