// Command tiermesh runs and inspects the nodes of a federated data mesh.
//
// Layer 5: flags, files, environment and signals are read here and nowhere
// else. Data goes to standard output, messages to standard error. Every error
// ends in one line and an exit code of the table in exit.go, which
// "tiermesh help exit-codes" prints.
package main
