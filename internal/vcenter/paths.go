package vcenter

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// typeFolder is the type of folders, of which the uppermost is vCenter's root.
const typeFolder = "Folder"

// locate sets the VM's location: the inventory paths of its folder and of its resource pool or vApp.
func (inv inventory) locate(vm *vsphere.VM) {
	above, owner := inv.placed(vm.Ref)
	folder, folderSeen := inv.path(above)
	pool, poolSeen := inv.path(owner)
	vm.FolderPath, vm.FolderUnseen = folder, !folderSeen
	vm.PoolPath, vm.PoolUnseen = pool, !poolSeen
}

// placed are the VM's folder, and its resource pool or vApp. A VM in a vApp has no folder of its own: the vApp's folder counts,
// and for a nested vApp that of the outer one.
func (inv inventory) placed(ref vsphere.Ref) (folder, owner vsphere.Ref) {
	vm := inv[ref]
	folder, owner = vm.refTo("parent"), vm.refTo("resourcePool")
	vapp := vm.refTo("parentVApp")
	if vapp.Zero() {
		return folder, owner
	}
	return inv.folderOf(vapp, folder), vapp
}

// folderOf is the folder of a vApp if none is known yet.
func (inv inventory) folderOf(vapp, folder vsphere.Ref) vsphere.Ref {
	for depth := 0; folder.Zero() && inv[vapp].ref == vapp && depth < maxDepth; depth++ {
		folder, vapp = inv[vapp].refTo("parentFolder"), inv[vapp].refTo("parent")
	}
	return folder
}

// path writes the names from below the root folder down to the object. It is incomplete if our user may not see an
// object on the way, which vCenter does not report.
func (inv inventory) path(ref vsphere.Ref) (path string, whole bool) {
	for depth := 0; depth < maxDepth; depth++ {
		o, ok := inv[ref]
		parent := o.refTo("parent")
		switch {
		case !ok:
			return path, false
		case parent.Zero():
			return path, ref.Type == typeFolder && o.denied["parent"] == nil
		}
		path, ref = "/"+o.text("name")+path, parent
	}
	return path, false
}
