package intake

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Bounds of the room that a request may ask for: what the largest host may have.
const (
	maxRoomCPUs     = 1024
	maxRoomMemoryMB = 64 << 20
)

// checkRoom checks what a request says of room on a host, and returns the cluster that it names.
func checkRoom(w wireRequest) (cluster vsphere.Ref, err error) {
	r := w.Room
	switch {
	case r == nil:
		return vsphere.Ref{}, nil
	case w.VM != "" || w.NoticeOnly:
		return cluster, errors.New("room is for what is to run, and vm names what is to go: ask for one of them")
	case len(r.For) > maxVM:
		return cluster, fmt.Errorf("room.for is %d bytes long: at most %d are taken", len(r.For), maxVM)
	case r.For != "" && (r.CPUs != 0 || r.MemoryMB != 0):
		return cluster, errors.New("room.for takes the sizes of the VM: leave room.cpus and room.memoryMB out")
	case r.For == "" && r.CPUs <= 0 && r.MemoryMB <= 0:
		return cluster, errors.New("room is empty: name a VM in room.for, or sizes in room.cpus and room.memoryMB")
	case r.CPUs < 0 || r.CPUs > maxRoomCPUs:
		return cluster, fmt.Errorf("room.cpus is %d: it is within 0 to %d", r.CPUs, maxRoomCPUs)
	case r.MemoryMB < 0 || r.MemoryMB > maxRoomMemoryMB:
		return cluster, fmt.Errorf("room.memoryMB is %d: it is within 0 to %d", r.MemoryMB, maxRoomMemoryMB)
	case r.Cluster == "":
		return cluster, nil
	}
	cluster, ok := vsphere.ParseRef(r.Cluster)
	if !ok {
		cluster = vsphere.Ref{Type: vsphere.TypeCluster, Value: r.Cluster}
	}
	if len(cluster.Value) > maxVM || strings.ContainsAny(cluster.Value, " /:") {
		return vsphere.Ref{}, errors.New("room.cluster is no MoRef, such as domain-c7")
	}
	return cluster, nil
}
