package simulation

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// UserForm says how the simulated vCenter writes a user's name in sessions, tasks and events.
type UserForm int

const (
	// DomainForm is DOMAIN\user, as vCenter writes it: VSPHERE.LOCAL\preemption.
	DomainForm UserForm = iota
	// PrincipalForm is user@domain, as the user typed it: preemption@vsphere.local.
	PrincipalForm
)

// Options describe the inventory and the manners of the simulated vCenter. The zero value is a good demo.
type Options struct {
	Clusters        int // default 2, named cluster-a, cluster-b, ...
	HostsPerCluster int // default 3, named esx-a-1, ...
	VMsPerCluster   int // default 15
	// Tagged is how many VMs of each cluster carry Tag (cluster-a-batch-01, ...; the others are cluster-a-app-01, ...).
	// Default 6, or all VMs when there are fewer; a negative number tags none.
	Tagged    int
	Tag       string // default "preemptible"
	Category  string // default "preemption"
	ExtraTags int    // unrelated tags, in a category of their own
	// NoOwnerCategories leaves out the three tag categories by which owners have a say.
	NoOwnerCategories bool

	// Inventory is a folder as 'govc object.save' writes it. Its vCenter takes the place of the one that is built; Clusters,
	// HostsPerCluster, VMsPerCluster, Tagged and ExtraTags do not count then. Tags are in its files TagsFile and CategoriesFile.
	Inventory string
	// TaggedNames are globs: the VMs of the saved inventory whose names match one carry Tag too.
	TaggedNames []string

	Username string // default "preemption@vsphere.local"
	Password string // default "vcsim"; any other is refused
	UserForm UserForm
	// APIVersion, such as 7.0.3.0, is the version that the vCenter says it has; calls in a newer one are refused.
	// Default: the simulator's, with no call refused.
	APIVersion string
	NoVersions bool // the file of the versions that it has is missing

	Addr      string        // loopback address to listen on, default "127.0.0.1:0"
	PlainHTTP bool          // no TLS
	Latency   time.Duration // added to each SOAP and REST call
}

func (o Options) withDefaults() Options {
	setInt(&o.Clusters, 2)
	setInt(&o.HostsPerCluster, 3)
	setInt(&o.VMsPerCluster, 15)
	setInt(&o.Tagged, 6)
	o.Tagged = max(0, min(o.Tagged, o.VMsPerCluster))
	setString(&o.Tag, "preemptible")
	setString(&o.Category, "preemption")
	setString(&o.Username, "preemption@vsphere.local")
	setString(&o.Password, "vcsim")
	setString(&o.Addr, "127.0.0.1:0")
	return o
}

func (o Options) validate() error {
	if o.Clusters < 0 || o.HostsPerCluster < 0 || o.VMsPerCluster < 0 || o.ExtraTags < 0 {
		return fmt.Errorf("simulation options: Clusters %d, HostsPerCluster %d, VMsPerCluster %d, ExtraTags %d: none may be negative",
			o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.ExtraTags)
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return fmt.Errorf("simulation options: Addr %q is not host:port: %w", o.Addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("simulation options: Addr %q is not a loopback address; use 127.0.0.1:PORT, the simulator must not be reachable from outside", o.Addr)
	}
	return nil
}

func setInt(p *int, d int) {
	if *p == 0 {
		*p = d
	}
}

func setString(p *string, d string) {
	if *p == "" {
		*p = d
	}
}

// domainForm writes user@domain as DOMAIN\user; any other name stays as it is.
func domainForm(user string) string {
	name, domain, ok := strings.Cut(user, "@")
	if !ok {
		return user
	}
	return strings.ToUpper(domain) + `\` + name
}
