//go:build race

package run

// raceDetector says that the process carries the race detector, whose shadow takes
// several times the memory of what it watches.
const raceDetector = true
