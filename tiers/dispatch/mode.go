package dispatch

// The modes that rules can be restricted to; package command holds what they follow
// from.
const (
	ModeNormal    = "normal"
	ModeEmergency = "emergency"
)

// dayHours is how many hours round the clock a working day counts as.
const dayHours = 24

// SubjectMode is the mode of the event's site, as the site that dispatches knows it.
type SubjectMode struct {
	// Mode is normal, which is also what empty means, or emergency.
	Mode string
	// Level is that of the emergency, 1 (most severe) to 4; 0 in normal mode.
	Level int
	// Urgent says that every limit counts round the clock.
	Urgent bool
}

func (m SubjectMode) mode() string {
	if m.Mode == "" {
		return ModeNormal
	}
	return m.Mode
}

// Limit returns a limit as it counts in the mode: round the clock where that says so.
func (m SubjectMode) Limit(l Limit) Limit {
	if m.Urgent {
		return l.Urgent()
	}
	return l
}

// Enter notes in a brief the mode that its task is dispatched under, and counts its
// limit by that. In normal mode it changes nothing.
func (m SubjectMode) Enter(b *Brief) {
	if m.mode() == ModeNormal {
		return
	}
	b.Mode, b.ModeLevel, b.Limit = m.Mode, m.Level, m.Limit(b.Limit)
}

// Urgent returns the limit round the clock (紧急工作时): a working hour as one hour, a
// working day as 24, at most what a limit may be.
func (l Limit) Urgent() Limit {
	switch l.Unit {
	case UnitHour:
		return Limit{l.Amount, UnitUrgentHour}
	case UnitDay:
		return Limit{min(l.Amount, limitAmount/dayHours) * dayHours, UnitUrgentHour}
	default:
		return l
	}
}
