package node

import (
	"fmt"
	"os"

	"github.com/tiermesh/tiermesh/tiers/event"
)

// What becomes of a report of a place outside the area.
const (
	OutsideDoubtful = "doubtful"
	OutsideRefuse   = "refuse"
)

// Area is where the federation's events happen, as an operator says: a box, the
// polygons of a file, or both. The zero value is everywhere.
type Area struct {
	// Box is south, west, north, east in degrees.
	Box []float64 `json:"box,omitempty"`
	// GeoJSON is a file of polygons (RFC 7946).
	GeoJSON string `json:"geojson,omitempty"`
	// Outside is what becomes of a report of a place elsewhere: it is taken in and marked
	// [OutsideDoubtful], which empty means, or [OutsideRefuse]d.
	Outside string `json:"outside,omitempty"`
}

// Validate reports a value out of range. It does not read the file. The error wraps
// [ErrConfig].
func (a Area) Validate() error {
	if a.Outside != "" && a.Outside != OutsideDoubtful && a.Outside != OutsideRefuse {
		return fmt.Errorf("%w: \"area\": outside %q: want %s or %s", ErrConfig, a.Outside, OutsideDoubtful, OutsideRefuse)
	}
	if a.Outside != "" && a.Box == nil && a.GeoJSON == "" {
		return fmt.Errorf("%w: \"area\": outside %s of what: want a box, a geojson file or both", ErrConfig, a.Outside)
	}
	if a.Box != nil {
		if err := new(event.Area).AddBox(a.Box); err != nil {
			return fmt.Errorf("%w: \"area\": %w", ErrConfig, err)
		}
	}
	return nil
}

// read makes the area, nil for everywhere. The error wraps [ErrConfig].
func (a Area) read() (*event.Area, error) {
	if a.Box == nil && a.GeoJSON == "" {
		return nil, nil
	}
	out := &event.Area{}
	if a.Box != nil {
		if err := out.AddBox(a.Box); err != nil {
			return nil, fmt.Errorf("%w: \"area\": %w", ErrConfig, err)
		}
	}
	if a.GeoJSON != "" {
		b, err := os.ReadFile(a.GeoJSON)
		if err != nil {
			return nil, fmt.Errorf("%w: \"area\": %w", ErrConfig, err)
		}
		if err := out.AddGeoJSON(b); err != nil {
			return nil, fmt.Errorf("%w: \"area\": %s: %w", ErrConfig, a.GeoJSON, err)
		}
	}
	return out, nil
}
