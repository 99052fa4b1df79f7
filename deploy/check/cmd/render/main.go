// Command render writes release.yaml for a release to stdout: go run ./cmd/render [repository=image ...].
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/deploy/check/render"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	images := map[string]string{}
	for _, arg := range args {
		repository, image, ok := strings.Cut(arg, "=")
		if !ok || image == "" {
			return fmt.Errorf("%q is not repository=image", arg)
		}
		images[repository] = image
	}
	out, err := render.Release("../base", render.About, images)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(out)
	return err
}
