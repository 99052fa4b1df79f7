// Package flagwords puts what is wrong with the flags of a command line into words, in place of those of the libraries that read them.
package flagwords

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// kinds says of each type of flag what its value is, with an example. Types of our own have errors of their own.
var kinds = map[string]string{
	"int": "a whole number, such as 20", "uint": "a whole number, such as 20", "int32": "a whole number, such as 20", "int64": "a whole number, such as 20",
	"float64": "a number, such as 1.5", "duration": "a duration, such as 30s, 5m or 2h", "bool": "true or false",
}

// Plain returns what is wrong with a flag in plain words. Errors that are of no flag are returned as they are, and stay within the chain.
func Plain(err error) error {
	var (
		value   *pflag.InvalidValueError
		missing *pflag.ValueRequiredError
		unknown *pflag.NotExistError
		syntax  *pflag.InvalidSyntaxError
	)
	switch {
	case errors.As(err, &value):
		return ofValue(value)
	case errors.As(err, &missing):
		text := fmt.Sprintf("--%s needs a value", missing.GetFlag().Name)
		if kind, ok := kinds[missing.GetFlag().Value.Type()]; ok {
			text += ": " + kind
		}
		return wrong{text, err}
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return wrong{fmt.Sprintf("unknown flag: -%s; an argument that begins with - is given behind --", unknown.GetSpecifiedShortnames()), err}
	case errors.As(err, &syntax):
		return wrong{fmt.Sprintf("%q is no flag: flags are written as --name, --name=value or --name value", syntax.GetSpecifiedFlag()), err}
	}
	return err
}

func ofValue(e *pflag.InvalidValueError) error {
	flag := e.GetFlag()
	kind, ok := kinds[flag.Value.Type()]
	switch {
	case !ok:
		return wrong{fmt.Sprintf("--%s: %s", flag.Name, e.Unwrap()), e}
	case errors.Is(e, strconv.ErrRange):
		return wrong{fmt.Sprintf("--%s %q is too large or too small", flag.Name, e.GetValue()), e}
	}
	return wrong{fmt.Sprintf("--%s %q is not %s", flag.Name, e.GetValue(), kind), e}
}

// wrong is an error of a library in other words.
type wrong struct {
	text string
	err  error
}

// Error implements error.
func (w wrong) Error() string { return w.text }

// Unwrap returns the library's error.
func (w wrong) Unwrap() error { return w.err }
