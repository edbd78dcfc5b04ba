package node

import (
	"context"
	"time"
)

// Admission shows [admission] to this package's tests.
type Admission struct{ *admission }

// NewAdmission returns one with so many places, and so many that wait.
func NewAdmission(slots, queue int) Admission { return Admission{newAdmission(slots, queue)} }

// Enter waits for a place.
func (a Admission) Enter(ctx context.Context) (leave func(), retry time.Duration) {
	return a.enter(ctx)
}

// Taken returns how many places are taken and how many wait.
func (a Admission) Taken() (slots, queue int) { return len(a.slots), len(a.queue) }

// ComeBack is comeBack.
var ComeBack = comeBack

// ComparingFor is comparingFor.
const ComparingFor = comparingFor
