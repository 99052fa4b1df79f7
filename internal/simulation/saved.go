package simulation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// What is read of a saved inventory. A VM's file has about 50 kB.
const (
	savedFiles    = 200_000
	savedFileSize = 32 << 20
	savedSize     = 1 << 30
	savedLeftOut  = 20 // objects that are told one by one
)

// saved is an inventory as 'govc object.save' writes it: a file for each object.
type saved struct {
	objects []types.ObjectContent // the service instance first, else in the order of the files' names
	known   map[types.ManagedObjectReference]int
	hidden  map[types.ManagedObjectReference]types.ManagedObjectReference // the parents that are not there
	leftOut []string
	more    int // left out beyond those told
}

// readSaved reads all that can be used. A file that cannot be is left out; without a vCenter, its root folder and a
// host it is no inventory.
func readSaved(dir string) (*saved, error) {
	files, err := savedIn(dir)
	if err != nil {
		return nil, err
	}
	s := &saved{known: map[types.ManagedObjectReference]int{}, hidden: map[types.ManagedObjectReference]types.ManagedObjectReference{}}
	total := 0
	for _, name := range files {
		text, err := readBounded(filepath.Join(dir, name), savedFileSize)
		if err != nil {
			s.leave(name, err)
			continue
		}
		if total += len(text); total > savedSize {
			return nil, fmt.Errorf("the files of %s have more than %d MiB: this is no inventory", dir, savedSize>>20)
		}
		if err := s.take(text); err != nil {
			s.leave(name, err)
		}
	}
	if err := s.complete(dir); err != nil {
		return nil, err
	}
	return s, nil
}

// savedIn lists the files of the folder that may hold an object.
func savedIn(dir string) ([]string, error) {
	entries, err := listBounded(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".xml" && !e.IsDir() {
			files = append(files, e.Name())
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no file .xml: make it with govc object.save -d %s", dir, dir)
	}
	slices.Sort(files)
	return files, nil
}

func listBounded(dir string) ([]fs.DirEntry, error) {
	f, err := os.Open(dir) //nolint:gosec // the folder is the caller's to name
	if err != nil {
		return nil, fmt.Errorf("read the saved inventory: %w", err)
	}
	defer f.Close()
	entries, err := f.ReadDir(savedFiles + 1)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read the saved inventory %s: %w", dir, err)
	case len(entries) > savedFiles:
		return nil, fmt.Errorf("%s holds more than %d files: this is no inventory", dir, savedFiles)
	}
	return entries, nil
}

// readBounded reads a regular file, or says why not.
func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(path) //nolint:gosec // of the folder that the caller names
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > most:
		return nil, fmt.Errorf("it has more than %d MiB", most>>20)
	}
	return text, nil
}

// take adds the object of a file. The vSphere client panics on types and values that it does not know.
func (s *saved) take(text []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("this version does not understand it: %v", p)
		}
	}()
	var o types.ObjectContent
	d := xml.NewDecoder(bytes.NewReader(text)) // bounds how deep elements may be within one another
	d.TypeFunc = types.TypeFunc()
	if err := d.Decode(&o); err != nil {
		return err
	}
	if o.Obj.Type == "" || o.Obj.Value == "" {
		return errors.New("it names no object")
	}
	if _, twice := s.known[o.Obj]; twice {
		return fmt.Errorf("%s is in another file too", o.Obj)
	}
	if o.MissingSet = nil; !mo.IsManagedObjectType(o.Obj.Type) {
		return fmt.Errorf("this version does not know the type %s", o.Obj.Type)
	}
	o.PropSet = slices.DeleteFunc(o.PropSet, func(p types.DynamicProperty) bool { return p.Val == nil })
	if _, err := mo.ObjectContentToType(o); err != nil {
		return err
	}
	s.known[o.Obj] = len(s.objects)
	s.objects = append(s.objects, o)
	return nil
}

func (s *saved) leave(name string, err error) {
	if len(s.leftOut) == savedLeftOut {
		s.more++
		return
	}
	s.leftOut = append(s.leftOut, fmt.Sprintf("%s: %s", name, firstLine(err.Error())))
}

func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return shown.Clip(text, 200)
}

// complete checks that this is a vCenter, and notes which parents are not there.
func (s *saved) complete(dir string) error {
	first, ok := s.known[serviceInstance]
	if !ok {
		return fmt.Errorf("%s holds no vCenter, only parts of one%s: save all of it, with govc object.save -d %s and no path", dir, s.whyNot(), dir)
	}
	content, ok := valueOf[types.ServiceContent](s.objects[first], "content")
	if !ok {
		return fmt.Errorf("the service instance of %s has no content: save it again", dir)
	}
	if _, ok := s.known[content.RootFolder]; !ok {
		return fmt.Errorf("%s lacks the root folder %s%s: save it again", dir, content.RootFolder.Value, s.whyNot())
	}
	kinds := map[string]bool{}
	for _, o := range s.objects {
		kinds[o.Obj.Type] = true
	}
	if !kinds["HostSystem"] || !kinds["Datacenter"] {
		return fmt.Errorf("%s holds no host, or no datacenter%s: save it with an account that sees the inventory", dir, s.whyNot())
	}
	s.order(content)
	parents := s.parents()
	for i := range s.objects {
		o := &s.objects[i]
		s.hideParent(o, parents)
		ownChildren(o, parents)
		rehome(o, i)
	}
	return nil
}

// parents are those of all objects whose way up ends. One whose way up goes in a circle has none.
func (s *saved) parents() map[types.ManagedObjectReference]types.ManagedObjectReference {
	of := map[types.ManagedObjectReference]types.ManagedObjectReference{}
	for _, o := range s.objects {
		if parent, ok := valueOf[types.ManagedObjectReference](o, "parent"); ok {
			of[o.Obj] = parent
		}
	}
	ends := map[types.ManagedObjectReference]bool{} // known to end, or on the way that is looked at
	for _, o := range s.objects {
		way := map[types.ManagedObjectReference]bool{}
		for at, ok := o.Obj, true; ok && !ends[at]; at, ok = of[at], of[at].Value != "" {
			if way[at] {
				delete(of, at) // here the circle is cut
				break
			}
			way[at] = true
		}
		for at := range way {
			ends[at] = true
		}
	}
	return of
}

// ownChildren leaves folders, datacenters and pools the children of their kind that say so themselves, for whoever
// follows them down would not come to an end.
func ownChildren(o *types.ObjectContent, parents map[types.ManagedObjectReference]types.ManagedObjectReference) {
	theirs := func(child types.ManagedObjectReference) bool {
		return slices.Contains([]string{"Folder", "StoragePod", "Datacenter", "ResourcePool"}, child.Type) && parents[child] != o.Obj
	}
	o.PropSet = slices.DeleteFunc(o.PropSet, func(p types.DynamicProperty) bool {
		ref, ok := p.Val.(types.ManagedObjectReference)
		return ok && o.Obj.Type == "Datacenter" && p.Name != "parent" && theirs(ref)
	})
	for i, p := range o.PropSet {
		list, ok := p.Val.(types.ArrayOfManagedObjectReference)
		if ok && (p.Name == "childEntity" || p.Name == "resourcePool") {
			list.ManagedObjectReference = slices.DeleteFunc(slices.Clone(list.ManagedObjectReference), func(child types.ManagedObjectReference) bool {
				return theirs(child) || (p.Name == "resourcePool" && parents[child] != o.Obj)
			})
			o.PropSet[i].Val = list
		}
	}
}

// order puts the service instance first and then what it refers to, of which the simulator makes its own where nothing
// was saved: the folder of its datastores comes with one of them.
func (s *saved) order(content types.ServiceContent) {
	list := []types.ObjectContent{s.objects[s.known[serviceInstance]]}
	taken := map[types.ManagedObjectReference]bool{serviceInstance: true}
	for _, ref := range mo.References(content) {
		at, ok := s.known[ref]
		switch {
		case taken[ref]:
			continue
		case ok:
			list = append(list, s.objects[at])
		default:
			s.known[ref] = -1
			list = append(list, types.ObjectContent{Obj: ref})
		}
		taken[ref] = true
	}
	for _, o := range s.objects {
		if !taken[o.Obj] {
			list = append(list, o)
		}
	}
	s.objects = list
}

// rehome gives a datastore a path of its own: the simulator makes a folder of it, and it may say anything.
func rehome(o *types.ObjectContent, n int) {
	if o.Obj.Type != "Datastore" {
		return
	}
	path := fmt.Sprintf("ds:///vmfs/volumes/saved-%d/", n)
	for i, p := range o.PropSet {
		if p.Name != "info" {
			continue
		}
		info := reflect.New(reflect.TypeOf(p.Val)).Elem()
		info.Set(reflect.ValueOf(p.Val))
		if base, ok := info.Addr().Interface().(types.BaseDatastoreInfo); ok {
			base.GetDatastoreInfo().Url = path
			o.PropSet[i].Val = info.Interface()
			return
		}
	}
	info := types.VmfsDatastoreInfo{DatastoreInfo: types.DatastoreInfo{Url: path}}
	o.PropSet = slices.DeleteFunc(o.PropSet, func(p types.DynamicProperty) bool { return p.Name == "info" })
	o.PropSet = append(o.PropSet, types.DynamicProperty{Name: "info", Val: info})
}

// whyNot is what went wrong with the first file that was left out.
func (s *saved) whyNot() string {
	if len(s.leftOut) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d files could not be used; %s)", len(s.leftOut)+s.more, s.leftOut[0])
}

// hideParent takes out the parent of an object if that is not there, as where the account did not see it: the simulator
// would put the object elsewhere. It is set again when all is loaded. One in a circle is taken out for good.
func (s *saved) hideParent(o *types.ObjectContent, parents map[types.ManagedObjectReference]types.ManagedObjectReference) {
	parent, ok := parents[o.Obj]
	_, there := s.known[parent]
	if ok && !there {
		s.hidden[o.Obj] = parent
	}
	if !there {
		o.PropSet = slices.DeleteFunc(o.PropSet, func(p types.DynamicProperty) bool { return p.Name == "parent" })
	}
}

func valueOf[T any](o types.ObjectContent, name string) (value T, ok bool) {
	for _, p := range o.PropSet {
		if p.Name == name {
			value, ok = p.Val.(T)
			return value, ok
		}
	}
	return value, false
}

// stage writes the objects into a folder, for the simulator to read.
func (s *saved) stage(dir string) error {
	for i, o := range s.objects {
		if err := writeObject(filepath.Join(dir, fmt.Sprintf("%06d.xml", i)), o); err != nil {
			return err
		}
	}
	return nil
}

// writeObject writes an object as 'govc object.save' does.
func writeObject(path string, o types.ObjectContent) error {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(o); err != nil {
		return fmt.Errorf("write %s: %w", o.Obj, err)
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}
