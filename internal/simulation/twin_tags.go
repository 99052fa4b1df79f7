package simulation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// The files of a saved inventory that hold its tags, as govc writes them:
//
//	govc tags.category.ls -json > CategoriesFile
//	govc tags.attached.ls -l -json TAG... > TagsFile
const (
	CategoriesFile = "categories.json"
	TagsFile       = "tags.json"
)

type savedCategory struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Cardinality string `json:"cardinality"`
}

type savedTag struct {
	Tag struct {
		Name     string `json:"name"`
		Category string `json:"category_id"`
	} `json:"tag"`
	Objects []struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"object_ids"`
}

// tagTwin attaches the tags that were saved, and Options.Tag where its globs say so.
func (v *VCenter) tagTwin() error {
	categories, attached, err := v.savedTags()
	if err != nil {
		return err
	}
	if err := v.createSaved(categories); err != nil {
		return err
	}
	home := v.options.Category // of Options.Tag: the category that it has at the site
	for _, t := range attached {
		category := categories[t.Tag.Category]
		if t.Tag.Name == "" || category.Name == "" {
			return fmt.Errorf("%s: tag %q is of category %q, which %s does not have: write both anew", TagsFile, t.Tag.Name, t.Tag.Category, CategoriesFile)
		}
		if t.Tag.Name == v.options.Tag {
			home = category.Name
		}
		if err := v.attachSaved(category.Name, t); err != nil {
			return err
		}
	}
	v.options.Category = home
	if err := v.CreateTag(home, v.options.Tag); err != nil {
		return err
	}
	if err := v.tagNamed(home); err != nil {
		return err
	}
	return v.noteTagged()
}

func (v *VCenter) savedTags() (map[string]savedCategory, []savedTag, error) {
	var list []savedCategory
	var attached []savedTag
	if err := v.readJSON(TagsFile, &attached); err != nil {
		return nil, nil, err
	}
	if err := v.readJSON(CategoriesFile, &list); err != nil {
		return nil, nil, err
	}
	categories := map[string]savedCategory{}
	for _, c := range list {
		categories[c.ID] = c
	}
	return categories, attached, nil
}

// readJSON reads a file that need not be there.
func (v *VCenter) readJSON(name string, into any) error {
	text, err := readBounded(filepath.Join(v.options.Inventory, name), savedFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read the saved tags of %s: %w", filepath.Join(v.options.Inventory, name), err)
	}
	return nil
}

// createSaved makes the categories that were saved. Where none were, those of owners are there.
func (v *VCenter) createSaved(categories map[string]savedCategory) error {
	if len(categories) == 0 {
		return v.buildOwnerCategories()
	}
	made := map[string]bool{}
	for _, c := range categories {
		if c.Name == "" || made[c.Name] {
			continue
		}
		made[c.Name] = true
		if err := v.CreateCategory(c.Name, strings.EqualFold(c.Cardinality, singleTag)); err != nil {
			return err
		}
	}
	return nil
}

// attachSaved attaches one tag to what carried it; what is not in the inventory carries nothing.
func (v *VCenter) attachSaved(category string, t savedTag) error {
	if err := v.CreateTag(category, t.Tag.Name); err != nil {
		return err
	}
	for _, o := range t.Objects {
		ref := types.ManagedObjectReference{Type: o.Type, Value: o.ID}
		if v.service.Context.Map.Get(ref) == nil {
			continue
		}
		if err := v.AttachTag(category, t.Tag.Name, ref); err != nil {
			return fmt.Errorf("%s: %w", TagsFile, err)
		}
	}
	return nil
}

func (v *VCenter) tagNamed(category string) error {
	for _, vm := range v.VMs() {
		for _, pattern := range v.options.TaggedNames {
			ok, err := path.Match(oneWord(pattern), oneWord(plainName(vm.Name)))
			if err != nil {
				return fmt.Errorf("%q is no pattern of names: %w", pattern, err)
			}
			if !ok {
				continue
			}
			if err := v.AttachTag(category, v.options.Tag, vm.Ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// oneWord lets a star stand for a slash too.
func oneWord(text string) string { return strings.ReplaceAll(text, "/", "\x01") }

// plainName undoes vSphere's writing of / \ and % in names.
func plainName(name string) string {
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}

// noteTagged keeps which VMs carry Options.Tag.
func (v *VCenter) noteTagged() error {
	refs, err := v.tagged(v.options.Category, v.options.Tag)
	if err != nil {
		return err
	}
	carries := map[types.ManagedObjectReference]bool{}
	for _, ref := range refs {
		carries[ref] = true
	}
	for _, c := range v.clusters {
		for i := range c.VMs {
			c.VMs[i].Tagged = carries[c.VMs[i].Ref]
		}
	}
	return nil
}
