package dispatch

// Pause is a time that does not count, in Unix milliseconds; To is 0 while it
// lasts.
type Pause struct{ From, To int64 }

// Due returns when the limits, one after the other, have run out that began at
// a time, in Unix milliseconds, not counting the pauses, which are in order of
// their beginning. It is 0 while a pause lasts, for a calendar without working time, and
// for a time outside 1970 to 2200.
func Due(c Calendar, startMS int64, limits []Limit, pauses []Pause) int64 {
	if startMS < 0 || startMS > actionTimeMax {
		return 0
	}
	at := startMS
	for _, l := range limits {
		if l.Validate() != nil {
			continue
		}
		if l.Unit == UnitUrgentHour {
			at = spend(at, int64(l.Amount)*60*minuteMS, pauses, everyHour)
			continue
		}
		p, err := c.parse()
		if err != nil {
			return 0
		}
		budget := int64(l.Amount) * 60 * minuteMS
		if l.Unit == UnitDay {
			budget = int64(l.Amount) * p.dayLength()
		}
		at = spend(at, budget, pauses, p.walk)
	}
	for _, p := range pauses {
		if p.To == 0 {
			return 0
		}
	}
	return at
}

// everyHour is the calendar in which all time counts.
func everyHour(fromMS int64, f func(from, to int64) bool) { f(fromMS, 1<<62) }

// spend returns when a budget of counted time is used up.
func spend(start, budget int64, pauses []Pause, walk func(int64, func(from, to int64) bool)) int64 {
	out := start
	walk(start, func(from, to int64) bool {
		for _, p := range pauses {
			if p.To <= from || p.From >= to || p.From >= p.To {
				continue
			}
			if ahead := p.From - from; ahead > 0 {
				if ahead >= budget {
					break
				}
				budget -= ahead
			}
			from = min(p.To, to)
		}
		if from+budget <= to && from < to {
			out, budget = from+budget, 0
			return false
		}
		budget -= to - from
		out = to
		return true
	})
	return out
}
