// Package remedies holds end-to-end tests of resize, move and reconfigure.
package remedies

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestMain(m *testing.M) { sitetest.Main(m) }
