package vcenter

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	missEvery = 3 * time.Second  // an unknown name is looked for in vCenter at most this often
	fullEvery = 10 * time.Minute // names of known tags are read again at most this often on behalf of an unknown one
)

// tagCache knows the tags by id. vCenter's API lists ids only, so that each name costs a call: they are
// read once, and later only for ids not seen before.
type tagCache struct {
	turn chan struct{} // held while refreshing

	mu         sync.Mutex
	tags       map[string]tagInfo
	categories map[string]string // id to name, of the tags that were asked for
	used       map[string]bool   // ids that names were resolved to
	listed     time.Time
	full       time.Time
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

func (t *tagCache) store(listed []string, found map[string]tagInfo, full bool) {
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
	t.tags, t.listed = next, time.Now()
	if full {
		t.full = t.listed
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

// forget drops a tag that vCenter no longer knows, and allows to look for another at once.
func (t *tagCache) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tags, id)
	delete(t.used, id)
	t.listed = time.Time{}
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

// put adds a tag that was read or made one by one. The caller holds the turn, or the next refresh may lose it.
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

// categoryNamed is the id of the category of that name, "" when it is not known.
func (t *tagCache) categoryNamed(name string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, known := range t.categories {
		if known == name {
			return id
		}
	}
	return ""
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

// namedCategories are the categories whose names are known, unnamedCategories the others that tags are in.
func (t *tagCache) namedCategories() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.categories))
}

func (t *tagCache) unnamedCategories() (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, info := range t.tags {
		if t.categories[info.category] == "" {
			ids = append(ids, info.category)
		}
	}
	return unique(ids)
}

// inCategories lists the tags in categories of these names.
func (t *tagCache) inCategories(names []string) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, info := range t.tags {
		if slices.Contains(names, t.categories[info.category]) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
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

func (t *tagCache) listedWithin(d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.listed) < d
}

func (t *tagCache) fullWithin(d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.full) < d
}
