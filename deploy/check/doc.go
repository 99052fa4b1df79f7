// Package check holds the tests of the manifests beside it, against the Go types that Kubernetes and Knative
// read them with. It is a module of its own, because those types bring some hundred packages that no program
// of this project needs; it must not be imported. release.yaml is written anew by
//
//	go test . -run TestTheRelease -update
package check
