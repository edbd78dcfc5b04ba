// Package report writes what a run was and came to: report.json for programs and
// report.html for people, in one folder, with nothing to load from elsewhere.
//
// Layer 5.
package report
