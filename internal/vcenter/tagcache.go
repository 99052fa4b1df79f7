package vcenter

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

const (
	missEvery = 3 * time.Second  // an unknown name is searched in vCenter at most this often in the long run,
	missBurst = 5                // and so often at once
	fullEvery = 10 * time.Minute // names of known tags are read again at most this often on behalf of an unknown one
)

// tagCache has the tags by id. vCenter's API lists only ids, and each name costs a call: names are read once, and
// later only for new ids. The owners' categories, and the category in a tag's name, are enough. All names are
// read only for a tag name without category, which may be in any.
type tagCache struct {
	turn chan struct{} // held while refreshing

	mu         sync.Mutex
	tags       map[string]tagInfo
	categories map[string]string // id to name, of the tags that were asked for
	used       map[string]bool   // ids that names were resolved to
	listed     time.Time         // when the last list of ids was asked for
	whole      bool              // all tags that were listed are known
	full       time.Time
	looksPaid  time.Time // when the searches so far would have ended at one each missEvery
}

type tagInfo struct {
	name, category string // category is an id
}

func newTagCache() *tagCache {
	return &tagCache{
		turn:       make(chan struct{}, 1),
		tags:       make(map[string]tagInfo),
		categories: make(map[string]string),
		used:       make(map[string]bool),
	}
}

func (t *tagCache) store(began time.Time, listed []string, found map[string]tagInfo, whole, full bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := make(map[string]tagInfo, len(listed))
	for _, id := range listed {
		if info, ok := found[id]; ok {
			next[id] = info
		} else if info, ok := t.tags[id]; ok {
			next[id] = info
		}
	}
	t.tags, t.whole = next, whole
	if whole {
		t.listed = began
	}
	if full {
		t.full = began
	}
}

// matches returns the tags of that name, and those that it may name as category:name.
func (t *tagCache) matches(name string) (plain, qualified []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, info := range t.tags {
		switch {
		case info.name == name:
			plain = append(plain, id)
		case strings.HasSuffix(name, ":"+info.name):
			qualified = append(qualified, id)
		}
	}
	return plain, qualified
}

// forget drops a tag that vCenter no longer knows.
func (t *tagCache) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tags, id)
	delete(t.used, id)
}

func (t *tagCache) name(id string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tags[id].name
}

func (t *tagCache) category(tagID string) (id, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id = t.tags[tagID].category
	return id, t.categories[id]
}

func (t *tagCache) learnCategory(id, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.categories[id] = name
}

// put adds one tag that was read or created. The caller holds the turn, or the next refresh may lose it.
func (t *tagCache) put(id string, info tagInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tags[id] = info
}

// drop removes a tag that vCenter does not list.
func (t *tagCache) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tags, id)
	delete(t.used, id)
}

// categoryNamed is the id of the category of that name; "" if unknown.
func (t *tagCache) categoryNamed(name string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := ""
	for id, known := range t.categories {
		if known == name {
			return id
		}
		if strings.EqualFold(known, name) { // vCenter refuses a second one
			found = id
		}
	}
	return found
}

// of lists the tags of a category, by id.
func (t *tagCache) of(category string) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make(map[string]string)
	for id, info := range t.tags {
		if info.category == category {
			names[id] = info.name
		}
	}
	return names
}

func (t *tagCache) forgetCategory(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.categories, id)
}

// namedCategories are the categories whose names are known.
func (t *tagCache) namedCategories() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.categories))
}

// unnamed reports whether the category's name is not known.
func (t *tagCache) unnamed(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.categories[id] == ""
}

// categoriesNamed are the categories of these names, whatever the case of their letters: which of the names, by id.
func (t *tagCache) categoriesNamed(names []string) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := make(map[string]string)
	for id, known := range t.categories {
		if name, ok := sameName(names, known); ok {
			found[id] = name
		}
	}
	return found
}

// knowsCategories reports whether there is a category of each of these names.
func (t *tagCache) knowsCategories(names []string) bool {
	known := make(map[string]bool)
	for _, name := range t.categoriesNamed(names) {
		known[name] = true
	}
	return len(known) == len(names)
}

// inCategories lists the tags in categories of these names.
func (t *tagCache) inCategories(names []string) []string {
	return t.inCategoryIDs(t.categoriesNamed(names))
}

// inCategoryIDs lists the tags in the categories that have these keys.
func (t *tagCache) inCategoryIDs(categories map[string]string) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, info := range t.tags {
		if _, ok := categories[info.category]; ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// isWhole reports whether all listed tags of this vCenter are known.
func (t *tagCache) isWhole() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.whole
}

func (t *tagCache) use(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used[id] = true
}

func (t *tagCache) inUse(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used[id]
}

func (t *tagCache) knows(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.tags[id]
	return ok
}

// listedSince reports whether the ids were asked for since then.
func (t *tagCache) listedSince(then time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.listed.After(then)
}

// nextLook reserves a search for an unknown name, and returns how long to wait before it: not at all for
// some in a row, then missEvery for each.
func (t *tagCache) nextLook() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.looksPaid.Before(now) {
		t.looksPaid = now
	}
	wait := t.looksPaid.Sub(now) - (missBurst-1)*missEvery
	t.looksPaid = t.looksPaid.Add(missEvery)
	return wait
}

func (t *tagCache) fullWithin(d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.full) < d
}

// near lists the names of known tags that are like a name. Of `category:name` the name counts if nothing is like the whole.
func (t *tagCache) near(name string) []string {
	if name == "" {
		return nil
	}
	t.mu.Lock()
	names := make([]string, 0, len(t.tags))
	for _, info := range t.tags {
		names = append(names, info.name)
	}
	t.mu.Unlock()
	slices.Sort(names)
	names = slices.Compact(names)
	near := shown.Near(name, names)
	if _, plain, qualified := strings.Cut(name, ":"); qualified && plain != "" && len(near) == 0 {
		near = shown.Near(plain, names)
	}
	return near
}
