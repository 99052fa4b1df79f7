// Package chaos attacks the released programs from outside: it kills workers, Temporal and its database at random
// instants, takes vCenter away, and judges by what vCenter shows and by the reported results. It holds tests only; how to
// run them and what they found is in docs/reliability.md.
package chaos
