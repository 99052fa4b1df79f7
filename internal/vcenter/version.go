package vcenter

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
)

// ServiceVersion is the version of the SOAP API that was agreed upon with vCenter, "" before the first login.
func (g *Gateway) ServiceVersion() string { return g.known().api }

const (
	versionsFile    = "/sdk/vimServiceVersions.xml"
	maxVersionsFile = 64 << 10
)

// negotiate makes the client use vCenter's version, or ours if that is older. vCenter refuses some calls in a version
// that it does not know, and we could not read all answers of a newer version. If vCenter's version is unknown, ours
// is used.
func (g *Gateway) negotiate(ctx context.Context, client *soap.Client) {
	client.Namespace, client.Version = "urn:"+vim25.Namespace, vim25.Version
	theirs, err := g.theirVersion(ctx, client)
	switch {
	case err != nil:
		g.log.Debug("vCenter does not tell which versions of the SOAP API it speaks", "reason", err, "version", vim25.Version)
	case olderVersion(theirs, vim25.Version):
		client.Version = theirs
	}
}

func (g *Gateway) theirVersion(ctx context.Context, client *soap.Client) (string, error) {
	at := *g.url
	at.Path = versionsFile
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return "", err
	}
	var known struct {
		Version string `xml:"namespace>version"`
	}
	err = client.Do(ctx, req, func(res *http.Response) error {
		return xml.NewDecoder(io.LimitReader(res.Body, maxVersionsFile)).Decode(&known)
	})
	if err != nil {
		return "", err
	}
	if _, err := numbers(known.Version); err != nil {
		return "", fmt.Errorf("%q is no version", known.Version)
	}
	return known.Version, nil
}

// olderVersion compares versions such as 8.0.3.0 number by number.
func olderVersion(a, b string) bool {
	x, errX := numbers(a)
	y, errY := numbers(b)
	if errX != nil || errY != nil {
		return false
	}
	for i := range max(len(x), len(y)) {
		var m, n int
		if i < len(x) {
			m = x[i]
		}
		if i < len(y) {
			n = y[i]
		}
		if m != n {
			return m < n
		}
	}
	return false
}

func numbers(version string) (all []int, err error) {
	for _, part := range strings.Split(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}
