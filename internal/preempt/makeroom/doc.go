// Package makeroom frees room on one host for a VM that needs it now. It plans and evicts by rounds, powers the VM on,
// lets vCenter's admission control judge, and keeps the room from restores until it is used.
package makeroom
