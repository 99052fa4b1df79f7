package simulation_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// save makes a saved inventory of a small site in which one VM is off.
func save(t *testing.T) (dir string) {
	t.Helper()
	vc, err := simulation.Start(t.Context(), simulation.Options{Clusters: 2, HostsPerCluster: 1, VMsPerCluster: 3, Tagged: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer vc.Close()
	if err := vc.SetPowerState(vc.VM("cluster-a-app-01"), types.VirtualMachinePowerStatePoweredOff); err != nil {
		t.Fatal(err)
	}
	vc.Alarm("cluster-cpu-above-80")
	dir = filepath.Join(t.TempDir(), "site")
	if err := vc.Save(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t *testing.T, o simulation.Options) *simulation.VCenter {
	t.Helper()
	vc, err := simulation.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vc.Close)
	return vc
}

// file is the first file of the inventory whose name has the text.
func file(t *testing.T, dir, text string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), text) {
			return filepath.Join(dir, e.Name())
		}
	}
	t.Fatalf("no file %s in %s", text, dir)
	return ""
}

func names(vms []simulation.VM) (out []string) {
	for _, vm := range vms {
		out = append(out, vm.Name)
	}
	return out
}

func TestASavedInventoryIsTheSameSiteWhenLoaded(t *testing.T) {
	dir := save(t)
	vc := load(t, simulation.Options{Inventory: dir, TaggedNames: []string{"cluster-?-batch-01"}})
	if got := len(vc.VMs()); got != 6 {
		t.Fatalf("%d VMs, want 6", got)
	}
	if left := vc.LeftOut(); len(left) > 0 {
		t.Errorf("left out: %v", left)
	}
	if got := names(vc.TaggedVMs("")); !slices.Equal(got, []string{"cluster-a-batch-01", "cluster-b-batch-01"}) {
		t.Errorf("tagged: %v", got)
	}
	if state := vc.PowerState(vc.VM("cluster-a-app-01")); state != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("the VM that was off is %s", state)
	}
	was, _ := vc.Usage("cluster-a")
	if was < 20 || was > 60 {
		t.Errorf("cluster-a is at %.0f %% CPU, and was at 60 %% with all VMs on", was)
	}
	if err := vc.PowerOffAs(vc.VM("cluster-a-batch-01"), "somebody@site"); err != nil {
		t.Fatal(err)
	}
	if now, _ := vc.Usage("cluster-a"); now >= was {
		t.Errorf("cluster-a is at %.0f %% CPU after a power-off, and was at %.0f %%", now, was)
	}
	e, err := vc.PostAlarm(t.Context(), simulation.AlarmChange{
		Name: "cluster-cpu-above-80", Entity: vc.Cluster("cluster-a").Ref, From: "green", To: "red",
	})
	if err != nil || e.ComputeResource == nil || e.ComputeResource.Name != "cluster-a" {
		t.Errorf("the alarm is %+v, %v", e, err)
	}
}

func TestSavedTagsAreAttachedInTheirCategories(t *testing.T) {
	dir := save(t)
	vc := load(t, simulation.Options{Inventory: dir})
	vm := vc.VM("cluster-b-app-01").Value
	for name, text := range map[string]string{
		simulation.CategoriesFile: `[{"id":"urn:c1","name":"spot","cardinality":"SINGLE"},{"id":"urn:c2","name":"preemption-protect","cardinality":"MULTIPLE"}]`,
		simulation.TagsFile: `[
			{"tag_id":"urn:t1","tag":{"id":"urn:t1","name":"preemptible","category_id":"urn:c1"},"object_ids":[{"type":"VirtualMachine","id":"` + vm + `"},{"type":"VirtualMachine","id":"vm-gone"}]},
			{"tag_id":"urn:t2","tag":{"id":"urn:t2","name":"do-not-preempt","category_id":"urn:c2"},"object_ids":[{"type":"VirtualMachine","id":"` + vm + `"}]}]`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vc = load(t, simulation.Options{Inventory: dir, TaggedNames: []string{"cluster-a-*"}})
	if got := len(vc.Carrying("preemptible")); got != 4 {
		t.Errorf("%d VMs carry the tag, want those of cluster-a and the one of the file", got)
	}
	tags := vc.TagsOf(vc.VM("cluster-b-app-01"))
	if !slices.Equal(tags["spot"], []string{"preemptible"}) || !slices.Equal(tags["preemption-protect"], []string{"do-not-preempt"}) {
		t.Errorf("tags %v", tags)
	}
}

// withoutDescriptions is a copy of the saved inventory in which two managers lack the texts that they describe counters and
// tasks with. These are half of the inventory, and take most of the time to load it.
func withoutDescriptions(t *testing.T, saved string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "site")
	if err := os.CopyFS(dir, os.DirFS(saved)); err != nil {
		t.Fatal(err)
	}
	for _, manager := range []string{"PerformanceManager", "TaskManager"} {
		path := file(t, dir, "-"+manager+"-")
		id := strings.TrimSuffix(strings.SplitN(filepath.Base(path), "-", 3)[2], ".xml")
		text := `<ObjectContent xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><obj type="` + manager + `">` + id + `</obj></ObjectContent>`
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAnInventoryWithFaultsIsLoadedWithoutThemOrRefused(t *testing.T) {
	whole := save(t)
	good := withoutDescriptions(t, whole)
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	without := func(texts ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, text := range texts {
				if err := os.Remove(file(t, dir, text)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	const head = `<ObjectContent xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`
	for name, tc := range map[string]struct {
		spoil   func(*testing.T, string)
		refused string // "" means that it is loaded
		left    string // what is left out
		vms     int
	}{
		"nothing wrong":          {func(*testing.T, string) {}, "", "", 6},
		"an empty file":          {write("9999-x.xml", ""), "", "9999-x.xml: EOF", 6},
		"text":                   {write("9999-x.xml", "hello"), "", "9999-x.xml: ", 6},
		"half an object":         {write("9999-x.xml", head+"<obj type=\"VirtualMachine\">vm-1</obj><propSet>"), "", "9999-x.xml: ", 6},
		"no name":                {write("9999-x.xml", head+"</ObjectContent>"), "", "it names no object", 6},
		"an unknown type":        {write("9999-x.xml", head+`<obj type="Teapot">t-1</obj></ObjectContent>`), "", "does not know the type Teapot", 6},
		"an unknown value":       {write("9999-x.xml", head+`<obj type="Network">n-1</obj><propSet><name>summary</name><val xsi:type="Teapot"><a>1</a></val></propSet></ObjectContent>`), "", "", 6},
		"a value of wrong type":  {write("9999-x.xml", head+`<obj type="Network">n-1</obj><propSet><name>summary</name><val xsi:type="xsd:int">7</val></propSet></ObjectContent>`), "", "9999-x.xml: ", 6},
		"an unknown property":    {write("9999-x.xml", head+`<obj type="Network">n-1</obj><propSet><name>teapot</name><val xsi:type="xsd:int">7</val></propSet></ObjectContent>`), "", "", 6},
		"a bare VM":              {write("9999-x.xml", head+`<obj type="VirtualMachine">vm-99999</obj></ObjectContent>`), "", "", 7},
		"a VM of no known place": {write("9999-x.xml", head+`<obj type="VirtualMachine">vm-99999</obj><propSet><name>parent</name><val xsi:type="ManagedObjectReference" type="Folder">group-none</val></propSet></ObjectContent>`), "", "", 7},
		"deep elements":          {write("9999-x.xml", head+strings.Repeat("<a>", 100_000)), "", "9999-x.xml: ", 6},
		"another kind of file":   {write("notes.txt", "hello"), "", "", 6},
		"a huge file": {func(t *testing.T, dir string) {
			write("9999-x.xml", "")(t, dir)
			if err := os.Truncate(filepath.Join(dir, "9999-x.xml"), 1<<40); err != nil {
				t.Fatal(err)
			}
		}, "", "more than 32 MiB", 6},
		"a link to a device": {func(t *testing.T, dir string) {
			if err := os.Symlink("/dev/zero", filepath.Join(dir, "9999-x.xml")); err != nil {
				t.Fatal(err)
			}
		}, "", "no regular file", 6},
		"a datastore that says its path is elsewhere": {write("9999-x.xml", head+`<obj type="Datastore">datastore-99</obj><propSet><name>info</name><val xsi:type="VmfsDatastoreInfo"><name>x</name><url>ds:///vmfs/volumes/../../../etc</url><freeSpace>1</freeSpace><maxFileSize>1</maxFileSize></val></propSet></ObjectContent>`), "", "", 6},
		"a datastore without a path":                  {write("9999-x.xml", head+`<obj type="Datastore">datastore-99</obj></ObjectContent>`), "", "", 6},
		"folders in one another":                      {write("9999-x.xml", head+`<obj type="Folder">group-x</obj><propSet><name>parent</name><val xsi:type="ManagedObjectReference" type="Folder">group-x</val></propSet><propSet><name>childEntity</name><val xsi:type="ArrayOfManagedObjectReference"><ManagedObjectReference type="Folder">group-x</ManagedObjectReference><ManagedObjectReference type="Folder">group-d1</ManagedObjectReference></val></propSet></ObjectContent>`), "", "", 6},
		"a root below its own datacenter": {func(t *testing.T, dir string) {
			root := file(t, dir, "-Folder-group-d1")
			text, err := os.ReadFile(root)
			if err != nil {
				t.Fatal(err)
			}
			dc := strings.TrimSuffix(strings.SplitN(filepath.Base(file(t, dir, "-Datacenter-")), "-", 3)[2], ".xml")
			below := `<propSet><name>parent</name><val xsi:type="ManagedObjectReference" type="Datacenter">` + dc + `</val></propSet></ObjectContent>`
			write(filepath.Base(root), strings.Replace(string(text), "</ObjectContent>", below, 1))(t, dir)
		}, "", "", 6},
		"a VM twice": {func(t *testing.T, dir string) {
			text, err := os.ReadFile(file(t, dir, "VirtualMachine-vm"))
			if err != nil {
				t.Fatal(err)
			}
			write("9999-x.xml", string(text))(t, dir)
		}, "", "in another file too", 6},
		"managers missing":      {without("-SessionManager-", "-EventManager-", "-AlarmManager-", "-CustomFieldsManager-", "-PropertyCollector-", "-ViewManager-", "-TaskManager-", "-AuthorizationManager-", "-OptionManager-"), "", "", 6},
		"a folder missing":      {without("-Folder-group-2", "-Folder-group-3"), "", "", 6},
		"a pool missing":        {without("-ResourcePool-"), "", "", 6},
		"a cluster missing":     {without("-ClusterComputeResource-"), "", "", 6},
		"a host missing":        {without("-HostSystem-"), "", "", 6},
		"a datastore missing":   {without("-Datastore-"), "", "", 6},
		"no service instance":   {without("-ServiceInstance-"), "no path", "", 0},
		"no root folder":        {without("-Folder-group-d1"), "lacks the root folder", "", 0},
		"no host":               {without("-HostSystem-", "-HostSystem-"), "no host", "", 0},
		"tags that are no JSON": {write(simulation.TagsFile, "preemptible"), "tags.json", "", 0},
		"tags of no category":   {write(simulation.TagsFile, `[{"tag":{"name":"a","category_id":"b"}}]`), "categories.json does not have", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := good
			if name == "nothing wrong" {
				from = whole
			}
			dir := filepath.Join(t.TempDir(), "site")
			if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			tc.spoil(t, dir)
			vc, err := simulation.Start(t.Context(), simulation.Options{Inventory: dir})
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Fatalf("got %v, want %q", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer vc.Close()
			if made, _ := filepath.Glob("datastore-*"); len(made) > 0 {
				t.Errorf("%v were made in the working folder", made)
			}
			left := strings.Join(vc.LeftOut(), "\n")
			if !strings.Contains(left, tc.left) || (tc.left == "") != (left == "") {
				t.Errorf("left out: %q, want %q", left, tc.left)
			}
			if got := len(vc.VMs()); got != tc.vms {
				t.Errorf("%d VMs, want %d", got, tc.vms)
			}
			if err := vc.Save(context.Background(), filepath.Join(t.TempDir(), "again")); err != nil {
				t.Errorf("it cannot be read: %v", err)
			}
		})
	}
}

func TestAFolderThatIsNoInventoryIsRefused(t *testing.T) {
	empty := t.TempDir()
	aFile := filepath.Join(empty, "x")
	if err := os.WriteFile(aFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(empty, "nosuch"), empty, aFile} {
		if _, err := simulation.Start(t.Context(), simulation.Options{Inventory: dir}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func FuzzAnObjectOfASavedInventory(f *testing.F) {
	f.Add([]byte(`<ObjectContent xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><obj type="VirtualMachine">vm-1</obj><propSet><name>runtime</name><val xsi:type="VirtualMachineRuntimeInfo"><powerState>on</powerState></val></propSet></ObjectContent>`))
	f.Add(bytes.Repeat([]byte("<a>"), 1000))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "1.xml"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if vc, err := simulation.Start(t.Context(), simulation.Options{Inventory: dir}); err == nil {
			vc.Close()
		}
	})
}
