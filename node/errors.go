package node

import "errors"

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrConfig reports a configuration that cannot work.
	ErrConfig = errors.New("node: invalid configuration")
	// ErrExists rejects the creation of a document that exists.
	ErrExists = errors.New("node: document exists")
	// ErrAmbiguous rejects a name that several documents have, in streams of several
	// sites: their full names tell them apart.
	ErrAmbiguous = errors.New("several documents have this name")
	// ErrNotWriter rejects a write to a stream that this site may not write to.
	ErrNotWriter = errors.New("node: site may not write to this stream")
	// ErrNoStream reports a site to which a document cannot go from here.
	ErrNoStream = errors.New("node: not a site for this")
	// ErrBusy reports a document that other writers kept changing.
	ErrBusy = errors.New("node: document is being written by others")
	// ErrHeldBack reports a write to a document of which records came before those that
	// they follow: it can be made when these have come.
	ErrHeldBack = errors.New("node: document waits for records that it begins with")
	// ErrDefined rejects a definition of what an ancestor defines.
	ErrDefined = errors.New("node: defined above")
	// ErrNotCity rejects a topology at a site that is not the city.
	ErrNotCity = errors.New("node: only the city publishes the topology")
)
