package preempt

import (
	"errors"

	"go.temporal.io/sdk/temporal"
)

// The types of the errors by which a round fails before it acts, besides those of vcenter.Kind.
const (
	ReservationFailed = "ReservationFailed"
	RoundFailed       = "RoundFailed"
)

// RequestRejected is the type of the error for a request that is not valid.
const RequestRejected = "RequestRejected"

// Cause is the text of what an activity answered, without the frame that Temporal puts around it.
func Cause(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	return err.Error()
}
