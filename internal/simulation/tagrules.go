package simulation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	singleTag       = "SINGLE"
	multipleTags    = "MULTIPLE"
	associationPath = "/rest/com/vmware/cis/tagging/tag-association"
	invalidArgument = "com.vmware.vapi.std.errors.invalid_argument"
	tooManyTags     = "Tagging cardinality violation"
	wrongType       = "Tagging associable type violation"
)

// attachment is the body of the calls that attach and detach tags.
type attachment struct {
	Object  taggedObject   `json:"object_id"`
	Tags    []string       `json:"tag_ids"`
	Objects []taggedObject `json:"object_ids"`
}

type taggedObject struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

func (o taggedObject) ref() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: strings.TrimPrefix(o.Type, "urn:vim25:"), Value: o.ID}
}

// serveAttach serves the calls that attach tags as vCenter does, which keeps to cardinality and associable types, and
// the one that detaches several, which the simulator half does. False leaves the call to the simulator.
func (v *VCenter) serveAttach(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, associationPath) {
		return false
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return true // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	var body attachment
	if json.Unmarshal(data, &body) != nil {
		return false
	}
	served := false
	_ = v.withTags(func(s tagStore) error {
		sessions, _ := fieldOf(s, "Session").(map[string]*rest.Session)
		session := sessions[restSession(r)]
		if session == nil {
			return nil
		}
		session.LastAccessed = time.Now()
		served = serveAttachment(s, w, r, body)
		return nil
	})
	return served
}

func restSession(r *http.Request) string {
	if id := r.Header.Get("vmware-api-session-id"); id != "" {
		return id
	}
	if c, err := r.Cookie("vmware-api-session-id"); err == nil {
		return c.Value
	}
	return ""
}

// serveAttachment serves one call under the tag simulator's lock.
func serveAttachment(s tagStore, w http.ResponseWriter, r *http.Request, body attachment) bool {
	id := strings.TrimPrefix(path.Base(r.URL.Path), "id:")
	tag, _ := tagIn(s, id)
	switch r.URL.Query().Get("~action") {
	case "attach":
		if tag == nil {
			return false
		}
		why := refuseAttach(s, body.Object.ref(), id)
		if why == "" {
			s.AttachTag(body.Object.ref(), id)
			w.WriteHeader(http.StatusOK)
			return true
		}
		answer(w, http.StatusBadRequest, map[string]any{
			"type": invalidArgument, "value": map[string]any{"messages": []map[string]any{{"args": []string{}, "default_message": why, "id": "cis.tagging.violation"}}},
		})
	case "attach-tag-to-multiple-objects":
		if tag == nil {
			return false
		}
		var errs []tags.BatchError
		for _, o := range body.Objects {
			errs = attachOne(s, o.ref(), id, errs)
		}
		answerBatch(w, errs)
	case "attach-multiple-tags-to-object":
		var errs []tags.BatchError
		for _, id := range body.Tags {
			errs = attachOne(s, body.Object.ref(), id, errs)
		}
		answerBatch(w, errs)
	case "detach-multiple-tags-from-object":
		var errs []tags.BatchError
		for _, id := range body.Tags {
			if s.DetachTag(body.Object.ref(), id) != nil {
				errs = append(errs, noTag(id))
			}
		}
		answerBatch(w, errs)
	default:
		return false
	}
	return true
}

func attachOne(s tagStore, ref types.ManagedObjectReference, id string, errs []tags.BatchError) []tags.BatchError {
	if tag, _ := tagIn(s, id); tag == nil {
		return append(errs, noTag(id))
	}
	if why := refuseAttach(s, ref, id); why != "" {
		return append(errs, tags.BatchError{Type: "cis.tagging.violation", Message: why})
	}
	s.AttachTag(ref, id)
	return errs
}

func noTag(id string) tags.BatchError {
	return tags.BatchError{Type: "cis.tagging.objectNotFound.error", Message: fmt.Sprintf("Tagging object %s not found", id)}
}

func answerBatch(w http.ResponseWriter, errs []tags.BatchError) {
	answer(w, http.StatusOK, map[string]any{"value": map[string]any{"success": len(errs) == 0, "error_messages": errs}})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// refuseAttach is why vCenter does not put the tag on the object; empty if it does.
func refuseAttach(s tagStore, ref types.ManagedObjectReference, id string) string {
	_, category := tagIn(s, id)
	if category == nil {
		return ""
	}
	kinds := category.AssociableTypes
	if len(kinds) != 0 && !slices.ContainsFunc(kinds, func(kind string) bool {
		kind = kind[strings.LastIndex(kind, ":")+1:]
		return kind == ref.Type
	}) {
		return wrongType
	}
	if category.Cardinality != singleTag {
		return ""
	}
	attached, _ := s.AttachedTags(ref) // the simulator looks at each tag
	if slices.ContainsFunc(attached, func(other string) bool {
		_, of := tagIn(s, other)
		return other != id && of != nil && of.ID == category.ID
	}) {
		return tooManyTags
	}
	return ""
}

// tagIn is a tag and its category; nil where there is none. The caller holds the lock.
func tagIn(s tagStore, id string) (*tags.Tag, *tags.Category) {
	all, _ := fieldOf(s, "Tag").(map[string]*tags.Tag)
	categories, _ := fieldOf(s, "Category").(map[string]*tags.Category)
	tag := all[id]
	if tag == nil {
		return nil, nil
	}
	return tag, categories[tag.CategoryID]
}
