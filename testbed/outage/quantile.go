package outage

import (
	"math"
	"time"
)

// point says that a share of outages lasts no longer than hours.
type point struct{ share, hours float64 }

// curve is a quantile function: its points rise from share 0 to share 1.
type curve []point

// powerHours are the published points of power, between its two ends.
var powerHours = curve{{0, 1.0 / 12}, {0.5, 2.5}, {0.9, 10.8}, {0.99, 114}, {1, 114 * math.Pow(114/10.8, 1.0/9)}}

// floodHours are those of the flood.
var floodHours = curve{{0, 1}, {0.5, 36}, {0.75, 96}, {0.9, 408}, {1, floodDays * 24}}

// at returns the duration that a share of outages does not exceed.
func (c curve) at(share float64) time.Duration {
	for i := 1; i < len(c); i++ {
		a, b := c[i-1], c[i]
		if share <= b.share {
			part := (share - a.share) / (b.share - a.share)
			hours := a.hours * math.Pow(b.hours/a.hours, part)
			return time.Duration(hours * float64(time.Hour))
		}
	}
	return time.Duration(c[len(c)-1].hours * float64(time.Hour))
}
