package preempt

// The guest keys of a notice: ours, and the guest's answer.
const (
	NoticeKey      = "guestinfo.preemption"
	NoticeReplyKey = "guestinfo.preemption.reply"
)
