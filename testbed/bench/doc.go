// Package bench measures the mesh beside a baseline in the same run, since
// machines are shared and noisy: a ratio says more than a rate.
//
// Layer 5. The baseline of writes is bare hashicorp/raft on raft-boltdb with
// the same bytes and a state machine that does nothing.
package bench
