// Package faults holds end-to-end tests of what goes wrong: vCenter or Temporal away, workers killed, bad input, bad guests, events that lag, workflows that
// are stuck, taken over or roll over.
package faults

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestMain(m *testing.M) { sitetest.Main(m) }
