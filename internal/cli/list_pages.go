package cli

import (
	"context"
	"fmt"
	"slices"

	"go.temporal.io/api/workflowservice/v1"
)

const (
	listPage  = 200  // workflows that are read at once
	listAlert = 2000 // workflows after which a list that still reads says so, and again after as many
)

// findWhere lists up to limit workflows that are chosen, newest first. It reads page by page in Temporal's order, the open ones
// first and then the last to close, holds only what is chosen, and reads no page more once it has limit.
func (s *session) findWhere(ctx context.Context, query string, limit int, chosen func(*listed) bool) ([]listed, error) {
	req := &workflowservice.ListWorkflowExecutionsRequest{Namespace: s.app.target.namespace, PageSize: listPage, Query: query}
	found := []listed{}
	for read := 0; len(found) < limit; {
		page, err := s.ListWorkflow(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("list workflows in namespace %s: %w", s.app.target.namespace, err)
		}
		for _, info := range page.GetExecutions() {
			if w := listing(info); len(found) < limit && chosen(&w) {
				found = append(found, w)
			}
		}
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			break
		}
		before := read
		if read += len(page.GetExecutions()); before/listAlert < read/listAlert && len(found) < limit {
			s.app.notice("read %d workflows, %d of them are as the flags say; reading on for up to %d", read, len(found), limit)
		}
	}
	slices.SortStableFunc(found, func(a, b listed) int { return b.StartedAt.Compare(a.StartedAt) })
	return found, nil
}
