//go:build !race

package run

// raceDetector says that the process carries the race detector.
const raceDetector = false
