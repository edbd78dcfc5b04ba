package tiers

import "errors"

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrInvalidID reports a site, document or stream identifier that is empty,
	// too long or holds a character outside its alphabet.
	ErrInvalidID = errors.New("tiers: invalid identifier")
	// ErrInvalidTopology reports a topology that is not one tree of three tiers.
	ErrInvalidTopology = errors.New("tiers: invalid topology")
	// ErrUnknownSite reports a site that the topology at hand does not list.
	ErrUnknownSite = errors.New("tiers: unknown site")
	// ErrStaleTopology reports a topology whose version is not above the one that
	// it is to follow.
	ErrStaleTopology = errors.New("tiers: topology version is not newer")
)
