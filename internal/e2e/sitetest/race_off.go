//go:build !race

package sitetest

// RaceDetector reports whether this binary was built with the race detector.
const RaceDetector = false
