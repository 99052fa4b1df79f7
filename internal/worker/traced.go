package worker

import (
	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/workflows"
)

// Traced says how our workflows are traced. A round, a restore, a remediation and what makes room begin a trace where
// nothing led to them, as when a schedule asked. Intake, ledger and watch serve one event after the other, for years.
func Traced() workflows.Types {
	return workflows.Types{
		Begin: []string{
			preemptapi.RoundType, preemptapi.RestoreType, preemption.MakeRoomWorkflowName, placement.ResizeType, placement.ReconfigureType, placement.MoveType,
		},
		Standing: []string{preemption.WorkflowName, ledger.WorkflowType, watchapi.WorkflowType},
	}
}
