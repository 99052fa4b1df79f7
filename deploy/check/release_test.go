package check

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/vsphere-preemption/vsphere-preemption/deploy/check/render"
)

var update = flag.Bool("update", false, "write release.yaml anew")

const releaseFile = "../../release.yaml"

func TestTheReleaseIsWhatTheBaseRendersTo(t *testing.T) {
	want, err := render.Release(base, render.About, nil)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(releaseFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(releaseFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("release.yaml is not what deploy/base renders to (%v): go test ./... -run TestTheRelease -update", err)
	}
	all, err := documents(got)
	if err != nil {
		t.Fatal(err)
	}
	// A kind that is not known is an error above; what must not be in it is not known: Namespace and Secret.
	for _, o := range all {
		if o.GetNamespace() != "vmware-preemption" {
			t.Errorf("%T %s is in namespace %q", o, o.GetName(), o.GetNamespace())
		}
	}
}

func TestAReleaseNamesItsImagesByDigest(t *testing.T) {
	const worker, digest = "ghcr.io/vsphere-preemption/worker", "sha256:0123"
	got, err := render.Release(base, render.About, map[string]string{worker: worker + "@" + digest})
	if err != nil || !strings.Contains(string(got), "image: "+worker+"@"+digest+"\n") || strings.Contains(string(got), ":latest") {
		t.Errorf("%v:\n%s", err, got)
	}
	if _, err := render.Release(base, render.About, map[string]string{"ghcr.io/other": "x"}); err == nil {
		t.Error("an image that is nowhere passed")
	}
}

// The configuration files are checked by the program that reads them.
func TestTheConfigurationFilesAreValid(t *testing.T) {
	program := filepath.Join(t.TempDir(), "preemptctl")
	build := exec.Command("go", "build", "-o", program, "./cmd/preemptctl")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, folder := range []string{base, standalone} {
		path := filepath.Join(t.TempDir(), "preemption.yaml")
		if err := os.WriteFile(path, []byte(the[*corev1.ConfigMap](t, folder).Data["preemption.yaml"]), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(program, "policy", "check", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", folder, err, out)
		}
	}
}
