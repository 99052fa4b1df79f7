package intake

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Bounds of the room that a request may ask for: what the largest host may have.
const (
	maxRoomCPUs     = 1024
	maxRoomMemoryMB = 64 << 20
	maxRoomHosts    = 16
)

// checkRoom checks what a request says of room on a host, and returns the cluster that it names.
func checkRoom(w wireRequest) (cluster vsphere.Ref, err error) {
	r := w.Room
	switch {
	case r == nil:
		return vsphere.Ref{}, nil
	case w.Headroom:
		return cluster, errors.New("room is for a VM or for sizes, and headroom for whatever comes: leave headroom out")
	case w.VM != "" || w.NoticeOnly:
		return cluster, errors.New("room is for what is to run, and vm names what is to go: ask for one of them")
	case len(r.For) > maxVM:
		return cluster, fmt.Errorf("room.for is %d bytes long: at most %d are taken", len(r.For), maxVM)
	}
	if err := cmp.Or(checkRoomHosts(r), checkRoomSizes(r)); err != nil || r.Cluster == "" {
		return cluster, err
	}
	return clusterOf(r.Cluster)
}

func roomsOf(r *preemption.Room) []preemptapi.RoomAsk {
	if r == nil {
		return nil
	}
	return preemptapi.RoomAsk{Room: *r}.Parts()
}

// checkRoomHosts checks on how many hosts room is asked for.
func checkRoomHosts(r *preemption.Room) error {
	switch {
	case r.Hosts < 0 || r.Hosts > maxRoomHosts:
		return fmt.Errorf("room.hosts is %d: it is within 1 to %d", r.Hosts, maxRoomHosts)
	case r.Hosts > 1 && r.CPUs == 0 && r.MemoryMB == 0:
		return errors.New("room.hosts is for sizes, for a VM runs on one host: leave it out, or ask by room.cpus and room.memoryMB")
	}
	return nil
}

func checkRoomSizes(r *preemption.Room) error {
	sizes := r.CPUs != 0 || r.MemoryMB != 0
	switch {
	case r.Waiting && (r.For != "" || sizes || r.Cluster == ""):
		return errors.New("room.waiting is for what stays off in room.cluster: name that, and neither room.for nor sizes")
	case r.Waiting:
		return nil
	case r.For != "" && sizes:
		return errors.New("room.for takes the sizes of the VM: leave room.cpus and room.memoryMB out")
	case r.For == "" && !sizes:
		return errors.New("room is empty: name a VM in room.for, or sizes in room.cpus and room.memoryMB")
	case r.CPUs < 0 || r.CPUs > maxRoomCPUs:
		return fmt.Errorf("room.cpus is %d: it is within 0 to %d", r.CPUs, maxRoomCPUs)
	case r.MemoryMB < 0 || r.MemoryMB > maxRoomMemoryMB:
		return fmt.Errorf("room.memoryMB is %d: it is within 0 to %d", r.MemoryMB, maxRoomMemoryMB)
	}
	return nil
}

// checkCluster checks where VMs are to go, if it is no room, and returns the cluster that the request names.
func checkCluster(w wireRequest) (cluster vsphere.Ref, err error) {
	switch {
	case w.Headroom && w.Cluster == "":
		return cluster, errors.New("headroom is kept in a cluster: name it in cluster")
	case w.Cluster == "":
		return cluster, nil
	case w.VM != "":
		return cluster, errors.New("vm names what is to go, wherever it runs: leave cluster and headroom out")
	}
	return clusterOf(w.Cluster)
}

// clusterOf reads a MoRef such as domain-c7, or Type:Value.
func clusterOf(text string) (vsphere.Ref, error) {
	cluster, ok := vsphere.ParseRef(text)
	if !ok {
		cluster = vsphere.Ref{Type: vsphere.TypeCluster, Value: text}
	}
	if len(cluster.Value) > maxVM || strings.ContainsAny(cluster.Value, " /:") {
		return vsphere.Ref{}, errors.New("cluster is no MoRef, such as domain-c7")
	}
	return cluster, nil
}
