package netns

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// Sentinels that this package's functions wrap.
var (
	// ErrMissing reports what this machine lacks.
	ErrMissing = errors.New("netns: not possible here")
	// ErrConfig reports a configuration that cannot be.
	ErrConfig = errors.New("netns: invalid configuration")
)

// Config describes a world.
type Config struct {
	// Dir is a directory, made when missing, for certificates, topology and one
	// directory a site, which must not be there yet. Its path is at most 76 bytes
	// long: Unix sockets are in there.
	Dir string
	// Command is the path of the tiermesh command.
	Command string
	// Federation is its name; empty means "testbed".
	Federation string
	// StandInAfter is for how long a parent must be silent; zero means the node's
	// default.
	StandInAfter time.Duration
	Logger       *slog.Logger
}

// dirMax leaves room for a site, a node and a socket in the 107 bytes of the path of
// a Unix socket.
const dirMax = 76

func (c Config) withDefaults() Config {
	if c.Federation == "" {
		c.Federation = "testbed"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports what is missing. The error wraps [ErrConfig].
func (c Config) Validate() error {
	switch {
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("%w: directory %q: want an absolute path", ErrConfig, c.Dir)
	case len(c.Dir) > dirMax:
		return fmt.Errorf("%w: directory %s: want a path of at most %d bytes, for the Unix sockets in it", ErrConfig, c.Dir, dirMax)
	case !filepath.IsAbs(c.Command):
		return fmt.Errorf("%w: command %q: want an absolute path", ErrConfig, c.Command)
	case c.StandInAfter < 0:
		return fmt.Errorf("%w: stand in after %v: want no less than 0", ErrConfig, c.StandInAfter)
	}
	return nil
}
