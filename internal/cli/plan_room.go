package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// roomFlags are the flags of a plan for room on one host.
type roomFlags struct {
	vm, memory, cluster string // the cluster is of the command's own flag
	cpus, hosts         int
}

// mostRoomHosts bounds --hosts and --room-hosts, as the worker does.
const mostRoomHosts = 16

// several is on how many hosts room is asked for; 0: on one.
func (f roomFlags) several() int {
	if f.hosts <= 1 {
		return 0
	}
	return f.hosts
}

func (f *roomFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.vm, "room-for", "", "plan room on one host for this VM, which is off: its name, inventory path or MoRef")
	flags.IntVar(&f.cpus, "room-cpus", 0, "plan room on one host for so many CPUs")
	flags.StringVar(&f.memory, "room-memory", "", "plan room on one host for so much memory, such as 128GiB")
	flags.IntVar(&f.hosts, "room-hosts", 1, "with --room-cpus and --room-memory: on so many different hosts at once, all or none")
}

// checkHosts checks on how many hosts the flag of that name asks for room.
func (f roomFlags) checkHosts(cmd *cobra.Command, flag string, sizes bool) error {
	switch {
	case !cmd.Flags().Changed(flag):
		return nil
	case !sizes:
		return usagef("--%s is for CPUs and memory: a VM runs on one host", flag)
	case f.hosts < 1 || f.hosts > mostRoomHosts:
		return usagef("--%s %d is not within 1 to %d", flag, f.hosts, mostRoomHosts)
	}
	return nil
}

// room is what the flags ask for; nil: they ask for none.
func (f roomFlags) room(cmd *cobra.Command) (*preemption.Room, error) {
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	sizes := given("room-cpus") || given("room-memory")
	switch {
	case !given("room-for") && !sizes:
		return nil, f.checkHosts(cmd, "room-hosts", sizes)
	case given("event") || given("fail-empty") || given("headroom"):
		return nil, usagef("--event, --fail-empty and --headroom are for plans of a preemption: leave them out where room is asked for")
	case given("room-for") && sizes:
		return nil, usagef("--room-for takes the sizes of the VM: leave --room-cpus and --room-memory out")
	case given("room-cpus") && f.cpus <= 0:
		return nil, usagef("--room-cpus %d is not positive", f.cpus)
	}
	if err := f.checkHosts(cmd, "room-hosts", sizes); err != nil {
		return nil, err
	}
	mb, err := mebibytes(f.memory)
	if err != nil {
		return nil, usagef("--room-memory: %w", err)
	}
	return &preemption.Room{For: strings.TrimSpace(f.vm), CPUs: f.cpus, MemoryMB: mb, Cluster: f.cluster, Hosts: f.several()}, nil
}

// mebibytes reads a size such as 128GiB. The short units are the binary ones too, as vSphere means them.
func mebibytes(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	number := strings.TrimRight(text, "aBbiGgKkMmTt ")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no size: use a whole number with MiB, GiB or TiB", text)
	}
	switch strings.ToLower(strings.TrimSpace(text[len(number):])) {
	case "mib", "mb", "m":
		return n, nil
	case "gib", "gb", "g":
		return n << 10, nil
	case "tib", "tb", "t":
		return n << 20, nil
	}
	return 0, fmt.Errorf("%q has no unit: use MiB, GiB or TiB, such as 128GiB", text)
}

// roomWhere says on which host a room is, or will be when so many have gone.
func roomWhere(p policy.RoomPlan, goes int) string {
	if goes == 0 {
		return p.HostName + " has it already"
	}
	return fmt.Sprintf("on %s, once the VMs below are off", p.HostName)
}

// roomTable shows on which host room would be made, and what each host would cost.
func roomTable(t *table, r preemptapi.RoundResult) {
	if len(r.Rooms) == 0 {
		return
	}
	p := r.Rooms[0]
	switch {
	case p.Refusal != "":
		t.row("room", "none: "+p.Refusal)
	case len(r.Rooms) > 1:
		for _, part := range r.Rooms {
			t.row("room", roomWhere(part, len(part.Targets)))
		}
		p = r.Rooms[len(r.Rooms)-1] // its hosts say which of them have the others
	default:
		t.row("room", roomWhere(p, len(r.Targets)))
	}
	if p.OtherHosts > 0 {
		t.row("hosts", fmt.Sprintf("the first %d of %d", len(p.Hosts), len(p.Hosts)+p.OtherHosts))
	}
	t.section("HOST", "WOULD GO", "HIGHEST PRIORITY", "FREES BEYOND", "WHY NOT")
	for _, h := range p.Hosts {
		gone, highest, beyond := "-", "-", "-"
		if h.Why == "" {
			gone = strconv.Itoa(len(h.Targets))
		}
		if len(h.Targets) > 0 {
			highest = fmt.Sprintf("%d, of %s", h.Priority, shown.Count(h.OfPriority, "VM"))
			beyond = capacity(h.Beyond.CPUMHz, h.Beyond.MemoryMB)
		}
		t.row(h.Name, gone, highest, beyond, orDash(h.Why))
	}
}
