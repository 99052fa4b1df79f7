package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/vsphere-preemption/vsphere-preemption/deploy/check/render"
)

func document(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The overlay that the guide shows is rendered over the base beside it, rather than that of the release it names.
func TestTheOverlayOfTheGuideRenders(t *testing.T) {
	block := regexp.MustCompile("(?s)```yaml\n(apiVersion: kustomize.*?)```").FindStringSubmatch(document(t, "installation.md"))
	if block == nil {
		t.Fatal("the guide shows no overlay")
	}
	remote := regexp.MustCompile(`github.com/vsphere-preemption/vsphere-preemption/deploy/base\?ref=v\S+`)
	if !remote.MatchString(block[1]) {
		t.Fatal("the overlay names no base")
	}
	fs := filesys.MakeFsInMemory()
	write := func(path string, raw []byte) {
		if err := fs.WriteFile(path, raw); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(base + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write("/base/"+filepath.Base(path), raw)
	}
	write("/site/kustomization.yaml", []byte(remote.ReplaceAllString(block[1], "../base")))
	write("/site/preemption.yaml", []byte("mode: observe\n"))
	raw, err := render.FolderOf(fs, "/site")
	if err != nil {
		t.Fatal(err)
	}
	all, err := documents(raw)
	if err != nil {
		t.Fatal(err)
	}
	var deployment *appsv1.Deployment
	var file *corev1.ConfigMap
	for _, o := range all {
		switch o := o.(type) {
		case *appsv1.Deployment:
			deployment = o
		case *corev1.ConfigMap:
			file = o
		}
	}
	spec := deployment.Spec.Template.Spec
	mounted(t, spec, file)
	if file.Name == the[*corev1.ConfigMap](t, base).Name || file.Data["preemption.yaml"] != "mode: observe\n" {
		t.Errorf("the file %s does not follow its content: %v", file.Name, file.Data)
	}
	c := spec.Containers[0]
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	if env["VCENTER_URL"] != "https://vc.example.com" || env["TEMPORAL_URL"] != "temporal.example.com:7233" || env["TEMPORAL_NAMESPACE"] == "" || !strings.HasSuffix(c.Image, "worker:v1.0.0") {
		t.Errorf("image %s, environment %v", c.Image, env)
	}
}

// govc is not run: no vCenter here enforces privileges. But a name that is none would be refused by any.
func TestThePrivilegesOfTheGuideAreVCenters(t *testing.T) {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/vmware/govmomi")
	list.Dir = "../.."
	dir, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	known, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "simulator/esx/authorization_manager.go"))
	if err != nil {
		t.Fatal(err)
	}
	guide := document(t, "security.md")
	// The table and the lines say the same.
	inLines, count := map[string]bool{}, 0
	for line := range strings.Lines(guide) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "govc role.") {
			for _, word := range strings.Fields(line) {
				inLines[word] = true
			}
		}
	}
	for _, privilege := range regexp.MustCompile(`\b(System|Global|VirtualMachine|InventoryService|Resource|Datastore)(\.[A-Z]\w+)+`).FindAllString(guide, -1) {
		count++
		if !strings.Contains(string(known), `"`+privilege+`"`) {
			t.Errorf("vCenter knows no privilege %s", privilege)
		}
		if !inLines[privilege] {
			t.Errorf("no govc line gives %s", privilege)
		}
	}
	if count < 30 {
		t.Errorf("%d privileges were found in the guide", count)
	}
}

// What the guides name is there.
func TestTheFilesOfTheGuidesAreThere(t *testing.T) {
	for _, name := range []string{"installation.md", "security.md", "migration.md"} {
		for _, match := range regexp.MustCompile(`\b(?:deploy|docs)/[\w./-]*\w|\]\(([^)#]+)`).FindAllStringSubmatch(document(t, name), -1) {
			path := match[0]
			if match[1] != "" {
				if strings.Contains(match[1], "://") {
					continue
				}
				path = "docs/" + match[1]
			}
			if _, err := os.Stat("../../" + path); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
