package event

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/tiers"
)

// Nearness is how close two reports must be to be suspected to be of one thing.
type Nearness struct {
	// Metres is the distance of two points, up to 200; 0 means 200.
	Metres float64
	// Within is the time between two reports; 0 means two hours.
	Within time.Duration
}

// DefaultNearness is 200 m and two hours.
func DefaultNearness() Nearness { return Nearness{Metres: CellMetres, Within: 2 * time.Hour} }

const (
	// CellMetres is the least width of a cell, so that what is as near as that
	// stands in the same cell or in one beside it.
	CellMetres = 200
	// rowDegrees is the height of a cell: 222 m.
	rowDegrees = 0.002
	// earthMetres is the mean radius (IUGG).
	earthMetres = 6371008.8
	// placeBytes is how much of a place's name counts.
	placeBytes = 96
)

// Near is where an event stands in [IndexNear], up to its time: its type, and the
// cell of its point, or its place's name when it has no point, or else its grid.
// Empty for an event that has none of them.
func Near(r Report) string {
	switch {
	case r.Lat != nil && r.Lon != nil:
		row := rowOf(*r.Lat)
		return nearPoint(r.Type, row, columnOf(row, *r.Lon))
	case plainPlace(r.Place) != "":
		return r.Type + "|p" + plainPlace(r.Place) + "|"
	case r.Grid != "":
		return r.Type + "|r" + r.Grid + "|"
	default:
		return ""
	}
}

// NearAll are the prefixes in [IndexNear] under which what is near a report may
// stand.
func NearAll(r Report) []string {
	if r.Lat == nil || r.Lon == nil {
		if near := Near(r); near != "" {
			return []string{near}
		}
		return nil
	}
	var out []string
	for row := rowOf(*r.Lat) - 1; row <= rowOf(*r.Lat)+1; row++ {
		n := columnsOf(row)
		at := columnOf(row, *r.Lon)
		seen := map[int]bool{}
		for d := -1; d <= 1; d++ {
			if c := ((at+d)%n + n) % n; !seen[c] {
				seen[c] = true
				out = append(out, nearPoint(r.Type, row, c))
			}
		}
	}
	return out
}

func nearPoint(kind string, row, column int) string {
	return kind + "|g" + strconv.Itoa(row) + "/" + strconv.Itoa(column) + "|"
}

func rowOf(lat float64) int { return int(math.Floor(lat / rowDegrees)) }

// columnsOf is how many cells a row is divided into: as many as are each
// [CellMetres] wide at its narrower edge, at least one.
func columnsOf(row int) int {
	edge := max(math.Abs(float64(row)), math.Abs(float64(row+1))) * rowDegrees
	around := 2 * math.Pi * earthMetres * math.Cos(min(edge, 90)*math.Pi/180)
	return max(int(around/(CellMetres*1.05)), 1)
}

func columnOf(row int, lon float64) int {
	n := columnsOf(row)
	return min(int((lon+180)/360*float64(n)), n-1)
}

// TimeValue is a time, in Unix milliseconds, in [IndexEvent] and at the end of values
// of [IndexNear].
func TimeValue(ms int64) string {
	const digits = "0123456789abcdef" // each event's view writes one or two of these
	var b [16]byte
	for i := range b {
		b[i] = digits[max(ms, 0)>>(60-4*i)&15]
	}
	return string(b[:])
}

// NearValue is the value in [IndexNear] of a prefix at a time.
func NearValue(prefix string, ms int64) string { return prefix + TimeValue(ms) }

// plainPlace is a place's name without spaces, punctuation and case.
func plainPlace(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
	if len(s) > placeBytes {
		end := placeBytes
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return s
}

// Distance is the great-circle distance of two points, in metres (haversine, on the
// mean radius).
func Distance(lat1, lon1, lat2, lon2 float64) float64 {
	rad := math.Pi / 180
	h := math.Pow(math.Sin((lat2-lat1)*rad/2), 2) + math.Cos(lat1*rad)*math.Cos(lat2*rad)*math.Pow(math.Sin((lon2-lon1)*rad/2), 2)
	return 2 * earthMetres * math.Asin(math.Sqrt(min(h, 1)))
}

// Suspect is an event that may be of the same thing as another one.
type Suspect struct {
	Event        tiers.DocID  `json:"event"`
	Stream       string       `json:"stream"`
	Site         tiers.SiteID `json:"site"`
	State        string       `json:"state"`
	Title        string       `json:"title"`
	ReportedAtMS int64        `json:"reported_at_ms"`
	Likeness
}

// Likeness is how alike two reports are.
type Likeness struct {
	// DistanceM is the distance in metres; nil when one has no point.
	DistanceM *float64 `json:"distance_m,omitempty"`
	// ApartS is the time between them in seconds.
	ApartS float64 `json:"apart_s"`
	// SameSource says that channel and source key are equal, SameWords that the
	// reporter and the text are.
	SameSource bool `json:"same_source,omitempty"`
	SameWords  bool `json:"same_words,omitempty"`
	// SameName says that clients gave both one name.
	SameName bool `json:"same_name,omitempty"`
}

// Alike says how alike two reports are, and whether they are alike enough to be
// suspected: of the same type, at the same place and about the same time.
func Alike(a, b Report, n Nearness) (l Likeness, ok bool) {
	apart := time.Duration(a.ReportedAtMS-b.ReportedAtMS) * time.Millisecond
	l = Likeness{
		ApartS:     math.Abs(apart.Seconds()),
		SameSource: a.SourceKey != "" && a.SourceKey == b.SourceKey && a.Channel == b.Channel,
		SameWords:  a.Reporter != "" && a.Reporter == b.Reporter && a.Text != "" && a.Text == b.Text,
	}
	ok = a.Type == b.Type && apart.Abs() <= n.Within
	if a.Lat != nil && a.Lon != nil && b.Lat != nil && b.Lon != nil {
		d := math.Round(Distance(*a.Lat, *a.Lon, *b.Lat, *b.Lon)*10) / 10
		if math.IsNaN(d) { // JSON has no such number, and nobody knows whether it is near
			return l, false
		}
		l.DistanceM = &d
		return l, ok && d <= n.Metres
	}
	return l, ok && Near(a) != "" && Near(a) == Near(b)
}

// Certain reports whether two reports that are alike need nobody to say so.
func (l Likeness) Certain() bool { return l.SameSource || l.SameWords }
