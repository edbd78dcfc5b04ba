// Package report writes what a run was and came to: report.json for programs and
// report.html for people, in one folder, with nothing to load from elsewhere. It
// also shows a run on a terminal while it lasts.
//
// Layer 5. [Write] is a function of its data; a [Progress] is safe for concurrent
// use.
//
// # report.html
//
// It reads without scripts, in light and dark, on paper, and from 400 pixels of
// width on. Each plot is drawn for three widths of windows, as SVG whose colours are
// variables of the style sheet. A thousand sites show as a distribution
// and the twenty slowest; thousands of faults as how many were on at a time, and by
// kind.
package report
