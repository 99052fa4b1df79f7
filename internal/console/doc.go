// Package console shows the record in a browser, and as JSON: what stands, what is under way, what happened and what can
// be done about it. It only reads. Each thing that can be done is shown as the command to copy. It loads nothing from
// outside itself, and runs no script that is not one of its files.
package console
