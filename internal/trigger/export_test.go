package trigger

// Entered changes whenever an order for the workflow has found its signal.
func (e *Engine) Entered(workflowID string) (newest any, orders int) {
	e.bundles.mu.Lock()
	defer e.bundles.mu.Unlock()
	b := e.bundles.last[workflowID]
	if b == nil {
		return nil, 0
	}
	return b, len(b.payloads)
}
