package standalone

import (
	"encoding/hex"
	"io/fs"
	"strings"
)

// dmiFolder is where Linux shows what the firmware says of the machine.
const dmiFolder = "/sys/class/dmi/id"

// selfUUIDs returns the BIOS UUIDs under which vCenter may know the VM that this process runs in, so that it is never
// preempted: as the firmware writes it, and with the first three fields in the other byte order, as newer firmware has
// it. There are none where the machine does not tell, as to a process without root. The worker does the same.
func selfUUIDs(dmi fs.FS) []string {
	text, err := fs.ReadFile(dmi, "product_uuid")
	if err != nil {
		return nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(b) != 16 {
		return nil
	}
	swapped := append([]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}, b[8:]...)
	return []string{uuid(b), uuid(swapped)}
}

func uuid(b []byte) string {
	s := hex.EncodeToString(b)
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
