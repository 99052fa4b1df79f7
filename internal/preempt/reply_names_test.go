package preempt

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestAnEventCarriesTheNamesOfItsVMsAndOfVeryManyNone(t *testing.T) {
	for _, n := range []int{1, MaxNames, MaxNames + 1} {
		var in ReplyInput
		for i := range n {
			in.VMs = append(in.VMs, vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d", i)})
		}
		for _, ref := range in.VMs {
			in.Name(ref, "web "+ref.Value)
		}
		b, err := json.Marshal(replyData{VirtualMachines: in.VMs, Names: in.Names})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Contains(string(b), `"names":{"vm-0":"web vm-0"`), n <= MaxNames; got != want {
			t.Errorf("of %d VMs, names are there: %v, want %v", n, got, want)
		}
	}
}
