package event

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// Area is where the events of a federation happen: a box, outlines, or both. The zero
// value is everywhere.
type Area struct {
	boxes    []box
	outlines [][]ring
}

// box is a rectangle; west may be greater than east, across the 180th meridian.
type box struct{ south, west, north, east float64 }

// ring is a closed line of [lon, lat].
type ring [][]float64

// AddBox adds a box: south, west, north, east in degrees. The error wraps [ErrInvalid].
func (a *Area) AddBox(b []float64) error {
	if len(b) != 4 {
		return invalid("box", "box of %d numbers: want 4: south, west, north, east", len(b))
	}
	x := box{b[0], b[1], b[2], b[3]}
	if !(x.south >= -90 && x.south < x.north && x.north <= 90) || !inLon(x.west) || !inLon(x.east) || x.west == x.east {
		return invalid("box", "box %v: want south, west, north, east, with south below north, in degrees", b)
	}
	a.boxes = append(a.boxes, x)
	return nil
}

func inLon(x float64) bool { return x >= -180 && x <= 180 }

// AddGeoJSON adds the polygons of a GeoJSON document (RFC 7946): a geometry, a feature
// or a collection of them. Their winding does not matter. The error wraps [ErrInvalid].
func (a *Area) AddGeoJSON(raw []byte) error {
	var g geoJSON
	if err := json.Unmarshal(raw, &g); err != nil {
		return invalid("geojson", "geojson: %v", err)
	}
	before := len(a.outlines)
	if err := a.add(g); err != nil {
		return err
	}
	if len(a.outlines) == before {
		return invalid("geojson", "geojson of type %.40q: it has no polygon", g.Type)
	}
	return nil
}

// geoJSON is what of a GeoJSON object is looked at.
type geoJSON struct {
	Type        string          `json:"type"`
	Coordinates json.RawMessage `json:"coordinates"`
	Geometry    *geoJSON        `json:"geometry"`
	Features    []geoJSON       `json:"features"`
	Geometries  []geoJSON       `json:"geometries"`
}

func (a *Area) add(g geoJSON) error {
	var polygons [][]ring
	var err error
	switch g.Type {
	case "Polygon":
		polygons = make([][]ring, 1)
		err = json.Unmarshal(g.Coordinates, &polygons[0])
	case "MultiPolygon":
		err = json.Unmarshal(g.Coordinates, &polygons)
	}
	if err != nil {
		return invalid("geojson", "geojson: coordinates of a %s: %v", g.Type, err)
	}
	for _, p := range polygons {
		if err := checkPolygon(p); err != nil {
			return err
		}
		a.outlines = append(a.outlines, p)
	}
	inside := slices.Concat(g.Features, g.Geometries)
	if g.Geometry != nil {
		inside = append(inside, *g.Geometry)
	}
	for _, x := range inside {
		if err := a.add(x); err != nil {
			return err
		}
	}
	return nil
}

func checkPolygon(p []ring) error {
	if len(p) == 0 {
		return invalid("geojson", "geojson: a polygon without an outline")
	}
	for _, r := range p {
		if len(r) < 4 {
			return invalid("geojson", "geojson: an outline of %d points: want 4 or more, the last as the first", len(r))
		}
		for _, at := range r {
			if len(at) < 2 || !inLon(at[0]) || !(at[1] >= -90 && at[1] <= 90) {
				return invalid("geojson", "geojson: point %v: want [longitude, latitude] in degrees", at)
			}
		}
	}
	return nil
}

// Everywhere reports whether the area leaves nothing out.
func (a *Area) Everywhere() bool { return a == nil || len(a.boxes)+len(a.outlines) == 0 }

// Contains reports whether a place is inside.
func (a *Area) Contains(lat, lon float64) bool {
	if a.Everywhere() {
		return true
	}
	for _, b := range a.boxes {
		across := lon >= b.west && lon <= b.east
		if b.west > b.east {
			across = lon >= b.west || lon <= b.east
		}
		if across && lat >= b.south && lat <= b.north {
			return true
		}
	}
	for _, p := range a.outlines {
		inside := false
		for _, r := range p { // a hole takes out again what is in it
			inside = inside != r.contains(lat, lon)
		}
		if inside {
			return true
		}
	}
	return false
}

// contains counts how often a line from the point to the east crosses the ring.
func (r ring) contains(lat, lon float64) (in bool) {
	for i, j := 0, len(r)-1; i < len(r); j, i = i, i+1 {
		a, b := r[i], r[j]
		if a[1] > lat != (b[1] > lat) && lon < (b[0]-a[0])*(lat-a[1])/(b[1]-a[1])+a[0] {
			in = !in
		}
	}
	return in
}

// checkPoint checks a report's place, if it has one, by itself. Where latitude and
// longitude seem to be swapped, as far as the area tells, the error says so.
func (r Report) checkPoint(a *Area) error {
	switch {
	case r.Lat == nil && r.Lon == nil:
		return nil
	case r.Lon == nil:
		return invalid("lon", "lat %v without lon: want both or neither", *r.Lat)
	case r.Lat == nil:
		return invalid("lat", "lon %v without lat: want both or neither", *r.Lon)
	case *r.Lat == 0 && *r.Lon == 0:
		return invalid("lat", "lat 0, lon 0: 0,0 stands for unknown in most exports: leave both out")
	case !(math.Abs(*r.Lat) <= 90) || !(math.Abs(*r.Lon) <= 180): // the negated form also refuses NaN
		return invalid("lat", "lat %v, lon %v: want -90 to 90 and -180 to 180%s", *r.Lat, *r.Lon, r.swapped(a))
	}
	return nil
}

// swapped guesses that latitude and longitude are swapped: then they are in the area.
func (r Report) swapped(a *Area) string {
	if lat, lon := *r.Lon, *r.Lat; math.Abs(lat) <= 90 && math.Abs(lon) <= 180 && a.Contains(lat, lon) {
		return fmt.Sprintf("; they seem to be swapped: lat %v, lon %v is a place here", lat, lon)
	}
	return ""
}

// Outside says why a report's place, which was checked, is not in the area; empty when
// it is, or there is none.
func (r Report) Outside(a *Area) string {
	if r.Lat == nil || r.Lon == nil || a.Contains(*r.Lat, *r.Lon) {
		return ""
	}
	return fmt.Sprintf("lat %v, lon %v: outside the area%s", *r.Lat, *r.Lon, r.swapped(a))
}

// OutsideArea is the error of a place outside the area, where such are refused.
func OutsideArea(why string) error { return invalid("lat", "%s", why) }
