package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
)

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(err error) error { return &exitError{program.Usage, err} }
func usagef(format string, args ...any) error {
	return &exitError{program.Usage, fmt.Errorf(format, args...)}
}

func failedf(format string, args ...any) error {
	return &exitError{program.Failed, fmt.Errorf(format, args...)}
}

func notFoundf(format string, args ...any) error {
	return &exitError{program.NotFound, fmt.Errorf(format, args...)}
}

func refusedf(format string, args ...any) error {
	return &exitError{program.Refused, fmt.Errorf(format, args...)}
}

func interruptedf(format string, args ...any) error {
	return &exitError{program.Interrupted, fmt.Errorf(format, args...)}
}

// exitCodeOf returns the exit code of an error.
func exitCodeOf(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return program.Done
	case errors.As(err, &coded):
		return coded.code
	}
	return program.Failed
}

// report prints an error as one line and returns the exit code. Only here errors become exit codes.
func (a *app) report(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return program.Done
	}
	code := exitCodeOf(err)
	var coded *exitError
	if ctx.Err() != nil && !errors.As(err, &coded) {
		code = program.Interrupted
	}
	fmt.Fprintln(a.Stderr, "Error:", clean(err.Error()))
	if code == program.Usage && cmd != nil {
		fmt.Fprintf(a.Stderr, "See '%s --help'.\n", cmd.CommandPath())
	}
	return code
}

// exitStatus is the end of a command's long help. The texts say what 3 and 4 mean; empty: the code is not used.
func exitStatus(notFound, refused string) string {
	if notFound != "" || refused != "" {
		return exitCodes(", also when no worker polls the task queue", notFound, refused)
	}
	return exitCodes("", "", "")
}

// exitCodes is exitStatus with another text about when the command fails; empty: none.
func exitCodes(failed, notFound, refused string) string {
	text := "Exit status: 0 done; 1 failed" + failed + "; 2 wrong usage"
	if notFound != "" {
		text += "; 3 " + notFound
	}
	if refused != "" {
		text += "; 4 " + refused
	}
	return text + "; 130 interrupted."
}

// explain turns an error of a call to Temporal into one line that says what to do. parent is the context of
// the whole program, ctx that of the calls.
func (a *app) explain(parent, ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var away *unreachableError
	if errors.As(context.Cause(ctx), &away) {
		return &exitError{program.Failed, away}
	}
	var coded *exitError
	if errors.As(err, &coded) {
		return err
	}
	if parent.Err() != nil {
		return interruptedf("interrupted")
	}
	if ctx.Err() != nil || timedOut(err) {
		return failedf("Temporal at %s did not answer in time; look at its health, or try again", a.target.address)
	}
	var denied *serviceerror.PermissionDenied
	switch {
	case namespaceMissing(err):
		return failedf("namespace %q does not exist on %s; check --namespace or TEMPORAL_NAMESPACE", a.target.namespace, a.target.address)
	case errors.As(err, &denied):
		return failedf("Temporal at %s denies access to namespace %q: %s; check TEMPORAL_API_KEY and TEMPORAL_TLS_*",
			a.target.address, a.target.namespace, denied.Message)
	case status.Code(err) == codes.Unauthenticated:
		return failedf("Temporal at %s refuses access: %s; check TEMPORAL_API_KEY and TEMPORAL_TLS_*", a.target.address, lastWords(status.Convert(err).Message()))
	}
	return err
}

func namespaceMissing(err error) bool {
	var missing *serviceerror.NamespaceNotFound
	var invalid *serviceerror.NamespaceInvalidState
	return errors.As(err, &missing) || errors.As(err, &invalid)
}

// missing reports whether a workflow does not exist (any more).
func missing(err error) bool {
	var notFound *serviceerror.NotFound
	return errors.As(err, &notFound) && !namespaceMissing(err)
}
