package cli

import "github.com/spf13/cobra"

// tagsCommand groups the commands about the tags that remediation reads.
func (a *app) tagsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tags",
		Short: "Create the tags for VM settings, and show those of a VM",
		Long: "Create the tags for VM settings, and show those of a VM. The owner of a VM attaches a tag, such as 4 of the\n" +
			"category config.hardware.numCPU. The setting is applied when the VM is turned off.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl tags create\n  preemptctl tags show web-1",
	}
	return group(cmd, a.tagsCreateCommand(), a.tagsShowCommand())
}
