package config

import (
	"encoding/hex"
	"io/fs"
	"strings"
)

// DMI is where Linux shows what the firmware says of the machine.
const DMI = "/sys/class/dmi/id"

// SelfUUIDs returns the BIOS UUIDs by which vCenter may know the VM that this process runs in, so that it
// is never preempted; none where the machine does not tell, as to a process without root.
func SelfUUIDs(dmi fs.FS) []string {
	text, err := fs.ReadFile(dmi, "product_uuid")
	if err != nil {
		return nil
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(raw) != 16 {
		return nil
	}
	// Newer firmware writes the first three fields in the other byte order than vSphere does.
	swapped := []byte{raw[3], raw[2], raw[1], raw[0], raw[5], raw[4], raw[7], raw[6]}
	return []string{dashed(raw), dashed(append(swapped, raw[8:]...))}
}

func dashed(raw []byte) string {
	s := hex.EncodeToString(raw)
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
