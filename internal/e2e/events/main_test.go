// Package events holds end-to-end tests of events in: the watch, the receiver, storms and floods of them, and the soak.
package events

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestMain(m *testing.M) { sitetest.Main(m) }
