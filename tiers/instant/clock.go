package instant

import "time"

// clock is what a text says of date and time of day.
type clock struct {
	year, month, day, hour, minute, second int
	nanos                                  int
	// half is 1 for AM, 2 for PM, 0 for a clock of 24 hours.
	half int
	// zone is that of the text's offset; nil without one.
	zone *time.Location
	// timed says that there is a time of day.
	timed bool
}

// time puts a clock together. Where it has no offset, it is one of zone.
func (c clock) time(zone *time.Location) (time.Time, error) {
	if err := c.check(); err != nil {
		return time.Time{}, err
	}
	if c.half > 0 {
		c.hour %= 12
		if c.half == 2 {
			c.hour += 12
		}
	}
	leap := c.second == 60
	if leap {
		c.second = 59
	}
	wall := time.Date(c.year, time.Month(c.month), c.day, c.hour, c.minute, c.second, c.nanos, time.UTC)
	t, err := c.place(wall, zone)
	if err != nil || !leap {
		return t, err
	}
	next := t.Truncate(time.Second).Add(time.Second)
	if u := next.UTC(); u.Day() != 1 || u.Hour() != 0 || u.Minute() != 0 {
		return time.Time{}, refuse(ErrNoSuch, "", "second 60 is a leap second, and those are at the end of a month, UTC")
	}
	return next, nil
}

// check refuses what no calendar or clock shows.
func (c clock) check() error {
	switch {
	case c.month < 1 || c.month > 12:
		return refuse(ErrNoSuch, "", "there is no month %d", c.month)
	case c.day < 1 || c.day > daysIn(c.year, c.month):
		return refuse(ErrNoSuch, "", "%s %d has %d days", time.Month(c.month), c.year, daysIn(c.year, c.month))
	case c.half > 0 && (c.hour < 1 || c.hour > 12):
		return refuse(ErrNoSuch, "", "there is no hour %d of twelve", c.hour)
	case c.hour == 24 && c.minute == 0 && c.second == 0 && c.nanos == 0:
		return nil // the end of its day
	case c.hour > 23 || c.minute > 59 || c.second > 60:
		return refuse(ErrNoSuch, "", "there is no %02d:%02d:%02d on a clock", c.hour, c.minute, c.second)
	}
	return nil
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// place finds the moment at which the clocks of the text's own zone, or else of zone,
// show wall. A day without its midnight begins a little later, and one with two of
// them with the first.
func (c clock) place(wall time.Time, zone *time.Location) (time.Time, error) {
	if c.zone != nil {
		_, offset := wall.In(c.zone).Zone()
		return wall.Add(-time.Duration(offset) * time.Second).In(c.zone), nil
	}
	before, after := wall.AddDate(0, 0, -1).In(zone), wall.AddDate(0, 0, 1).In(zone)
	_, was := before.Zone()
	_, is := after.Zone()
	first := wall.Add(-time.Duration(was) * time.Second).In(zone)
	second := wall.Add(-time.Duration(is) * time.Second).In(zone)
	_, atFirst := first.Zone()
	_, atSecond := second.Zone()
	shown := wall.Format("2006-01-02 15:04:05")
	switch {
	case atFirst != was && atSecond != is && c.timed:
		return time.Time{}, refuse(ErrSkipped, "", "%s has no %s: its clocks go forward over it; give the offset", zone, shown)
	case atFirst != was && atSecond != is:
		start, _ := first.ZoneBounds()
		return start, nil
	case atFirst == was && atSecond == is && was != is && c.timed:
		return time.Time{}, refuse(ErrTwice, "", "%s has %s twice, as its clocks go back: %s and %s; give the offset", zone, shown,
			first.Format(time.RFC3339), second.Format(time.RFC3339))
	case atFirst == was:
		return first, nil
	}
	return second, nil
}
