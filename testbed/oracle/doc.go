// Package oracle judges a federation by its sites' stores and by what was seen
// from outside, never by the sites' own counters. Each oracle is a function of
// what it reads, and each can fail: a test plants its defect.
//
// Layer 5. Reads only; safe for concurrent use. The sites may go on meanwhile,
// but what they write then may or may not be judged.
//
// # The oracles
//
//   - [NothingLost]: an acknowledged write is at every site of its stream's
//     audience; [KeptAtHome]: it is at the site that acknowledged it, also while
//     links are cut.
//   - [SameViews]: the same records of a document give the same view, byte for
//     byte, at every site that holds them.
//   - [Digests]: two sites' digests of a stream are equal exactly when its records
//     are; [Converged]: both ends of each line hold the same.
//   - [Audience]: no site holds a stream outside its audience, and nobody has
//     written where he may not.
//   - [Claims]: no exclusive resource is given twice in one epoch.
//   - [Custody]: a task has one custodian in causal order; what two sites signed for
//     at once can be seen, who has the better right has it, and the other is told.
//   - [Orders]: an order reaches each of its targets once and nobody else; its receipts
//     are the targets' own, go forward only, and are taken back nowhere.
//   - [Linearizable]: what clients of one site saw fits some order of their
//     operations, each between its call and its return.
//   - [Urgent]: an urgent record overtakes any backlog.
//   - [Bounded]: memory and queues stay below their bounds.
//   - [Live]: after the last heal every line that can be is proven equal in time.
package oracle
