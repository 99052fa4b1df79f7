package tell

// WorkflowType is the workflow that delivers one message to its channels. It takes an Order and answers a Report.
const WorkflowType = "PreemptionNotification"

// Order is a message to be delivered.
type Order struct {
	Message Message `json:"message"`
	Channel string  `json:"channel,omitempty"` // of a test; "": all
}

// Test reports whether somebody only tries the channels, and waits for what becomes of it.
func (o Order) Test() bool { return o.Message.Event == "" }

// Outcome is what became of a message at a channel.
type Outcome string

// The outcomes.
const (
	Sent    Outcome = "sent"
	Retried Outcome = "retried"  // an attempt failed, and another follows
	Refused Outcome = "refused"  // it cannot be sent, and trying again would not help
	GivenUp Outcome = "given_up" // no attempt succeeded in time
)

// Outcomes lists all of them.
func Outcomes() []Outcome { return []Outcome{Sent, Retried, Refused, GivenUp} }

// Delivery is a message's way to one channel.
type Delivery struct {
	Channel string   `json:"channel"`
	To      string   `json:"to,omitempty"`   // a mail address that an owner's tag names; "": the channel's own
	Only    []string `json:"only,omitempty"` // references of the VMs that it is about; none: all
	Owner   bool     `json:"owner,omitempty"`
}

// Delivered is how that went.
type Delivered struct {
	Channel string  `json:"channel"`
	Owner   bool    `json:"owner,omitempty"`
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
}

// Report is what became of a message.
type Report struct {
	Deliveries []Delivered `json:"deliveries"`
	// Unknown says that a test names a channel that the worker's file does not have. Known are those that it has.
	Unknown bool     `json:"unknown,omitempty"`
	Known   []string `json:"known,omitempty"`
	Owners  string   `json:"owners,omitempty"` // why the tags of owners could not be read
}
