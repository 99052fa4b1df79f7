// Package render makes one YAML file of a folder of manifests, as kubectl kustomize does, for releases.
package render

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Folder renders the kustomization in a folder of the disk.
func Folder(dir string) ([]byte, error) { return FolderOf(filesys.MakeFsOnDisk(), dir) }

// FolderOf renders the kustomization in a folder of a file system.
func FolderOf(fs filesys.FileSystem, dir string) ([]byte, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // as kubectl: what the kustomization says, else namespaces first and so on
	objects, err := krusty.MakeKustomizer(options).Run(fs, dir)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", dir, err)
	}
	return objects.AsYaml()
}

var hashed = regexp.MustCompile(`(?m)(name: vsphere-preemption-config)-[a-z0-9]{10}$`)

// Release renders a folder for a release: with what to know on top, and with images, by repository, in the place of
// those tagged latest. An image that occurs nowhere is an error.
func Release(dir, about string, images map[string]string) ([]byte, error) {
	raw, err := Folder(dir)
	if err != nil {
		return nil, err
	}
	for _, repository := range slices.Sorted(maps.Keys(images)) {
		from, to := "image: "+repository+":latest\n", "image: "+images[repository]+"\n"
		if !bytes.Contains(raw, []byte(from)) {
			return nil, fmt.Errorf("%s is no image of %s", repository, dir)
		}
		raw = bytes.ReplaceAll(raw, []byte(from), []byte(to))
	}
	// A file that people edit has names that can be written down; what follows its content is for Kustomize.
	raw = hashed.ReplaceAll(raw, []byte("$1"))
	var out strings.Builder
	for line := range strings.Lines(about) {
		out.WriteString("# " + line)
	}
	return append([]byte(out.String()), raw...), nil
}

// About is what release.yaml says on top.
const About = `The worker: deploy/base, rendered. It holds no namespace and no secret; make both first, and change TEMPORAL_URL and
VCENTER_URL below to yours:
  kubectl create namespace vmware-preemption
  kubectl -n vmware-preemption create secret generic vsphere-credentials --from-literal=username=... --from-file=password
  kubectl create -f release.yaml
Everything else: docs/installation.md.
`
