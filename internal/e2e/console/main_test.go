package console

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestMain(m *testing.M) { sitetest.Main(m) }
