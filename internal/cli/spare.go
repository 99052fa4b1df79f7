package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// spareFlags are the flags of spare.
type spareFlags struct {
	lasts  time.Duration
	reason string
}

func (a *app) spareCommand() *cobra.Command {
	var f spareFlags
	cmd := &cobra.Command{
		Use: "spare VM", Args: oneVM,
		Short: "Keep a VM from being preempted for a time",
		Long: "Keep a VM from being preempted for a time, without touching its tags: no round chooses it, and a round that is under\n" +
			"way spares it where it has not acted on it yet. It may still be resized, reconfigured, moved and restored.\n\n" +
			exitStatus("no such VM", "too many VMs are spared already"),
		Example: "  preemptctl spare web-1 --for 2h --reason \"demo for the board\"\n  preemptctl spare list\n  preemptctl spare end web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.lasts < time.Minute || f.lasts > ledger.MaxHeldFor {
				return usagef("--for %s is not within 1m to %s", f.lasts, span(ledger.MaxHeldFor))
			}
			if err := checkReason(f.reason); err != nil {
				return err
			}
			return a.changeSpare(cmd, args[0], ledger.SpareRequest{Spare: ledger.Spare{
				By: a.who(), Reason: strings.TrimSpace(f.reason), Until: a.Now().Add(f.lasts).UTC().Truncate(time.Second),
			}})
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().DurationVar(&f.lasts, "for", 2*time.Hour, "for how long, 1m to 744h")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why; it is shown wherever the VM is spared")
	list := &cobra.Command{
		Use: "list", Args: noArgs,
		Short:   "Show which VMs are spared",
		Long:    "Show which VMs are spared for now, by whom, until when and why.\n\n" + exitStatus("", ""),
		Example: "  preemptctl spare list\n  preemptctl spare list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error {
				h, err := s.heldUp(ctx)
				if err != nil {
					return err
				}
				return a.showSpares(h.Spares, "spared VMs")
			})
		},
	}
	end := &cobra.Command{
		Use: "end VM", Args: oneVM,
		Short:   "Spare a VM no longer",
		Long:    "Spare a VM no longer. It may be preempted again at once.\n\n" + exitStatus("no such VM, or it is not spared", ""),
		Example: "  preemptctl spare end web-2  # exit code 3 where nobody spares it",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeSpare(cmd, args[0], ledger.SpareRequest{End: true})
		},
	}
	cmd.AddCommand(list, end)
	return cmd
}

// oneVM wants the name of one VM.
func oneVM(c *cobra.Command, args []string) error {
	if len(args) != 1 || strings.TrimSpace(args[0]) == "" {
		return usagef("%s takes one VM: its name, inventory path or MoRef", c.CommandPath())
	}
	return nil
}

// changeSpare looks the VM up, and spares it or no longer.
func (a *app) changeSpare(cmd *cobra.Command, vm string, r ledger.SpareRequest) error {
	vm = strings.TrimSpace(vm)
	return a.withSession(cmd, quick+namesLimit, func(ctx context.Context, s *session) error {
		if err := s.mustPoll(ctx, "nothing is preempted without one"); err != nil {
			return err
		}
		ref, err := a.vmNamed(ctx, s, vm)
		if err != nil {
			return err
		}
		r.VM = ref.String()
		if vm != ref.Value && vm != r.VM {
			r.Name = vm
		}
		got, err := s.ledger().Spare(ctx, r)
		switch {
		case err != nil:
			return err
		case got.Refused != "":
			return refusedf("VM %s is not spared: %s", vm, got.Refused)
		case r.End && !got.Ended:
			return notFoundf("VM %s is not spared; see: %s", vm, a.command("spare", "list"))
		}
		return a.showSpares(got.Spares, "spared VMs")
	})
}

// vmNamed returns the VM that a person named. A whole MoRef is taken as it is.
func (a *app) vmNamed(ctx context.Context, s *session, named string) (vsphere.Ref, error) {
	if ref, ok := vsphere.ParseRef(named); ok && ref.Type == vsphere.TypeVM {
		return ref, nil
	}
	out, err := a.lookUp(ctx, s, preemptapi.NamesInput{VMs: []string{named}})
	switch {
	case err != nil:
		return vsphere.Ref{}, err
	case s.unheeded != nil:
		return vsphere.Ref{}, s.unheeded
	case len(out.VMs) != 1 || out.VMs[0].Zero():
		return vsphere.Ref{}, failedf("VM %q could not be looked up in vCenter in time: try again, or give its whole MoRef, such as VirtualMachine:vm-42", named)
	}
	return out.VMs[0], nil
}

func (a *app) showSpares(list []ledger.Spare, msg string) error {
	if list == nil {
		list = []ledger.Spare{}
	}
	return a.show(view{
		value: list, msg: msg, attrs: []any{"spares", list},
		table: func(t *table) {
			if len(list) == 0 {
				t.row("spared", "no VM")
				return
			}
			t.section("SPARED", "MOREF", "SINCE", "UNTIL", "BY", "REASON")
			for _, o := range list {
				ref, _ := vsphere.ParseRef(o.VM)
				t.row(orDash(clean(o.Name)), ref.Value, timestamp(o.Since), timestamp(o.Until), orDash(o.By), clean(o.Reason))
			}
		},
	})
}
