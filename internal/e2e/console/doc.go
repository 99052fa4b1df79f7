// Package console holds the end-to-end tests of the record and of the console over it: a simulated site with its worker, and
// with -browser a real browser that looks at each page while VMs get their notice, go and come back.
package console
