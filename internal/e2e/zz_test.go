package e2e
import ("fmt";"context")
func (s *site) dumpX(id string) {
	it := s.c.GetWorkflowHistory(context.Background(), id, "", false, 0)
	for it.HasNext() { e, _ := it.Next(); fmt.Println(e.EventTime.AsTime().Format("05.000"), e.EventType, e.GetActivityTaskStartedEventAttributes().GetAttempt(), e.GetActivityTaskStartedEventAttributes().GetLastFailure().GetMessage()) }
}
