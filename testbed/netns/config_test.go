package netns_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/netns"
)

func TestConfig(t *testing.T) {
	good := netns.Config{Dir: "/d", Command: "/c"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, row := range []struct {
		name   string
		change func(*netns.Config)
	}{
		{"relative directory", func(c *netns.Config) { c.Dir = "d" }},
		{"long directory", func(c *netns.Config) { c.Dir = "/" + strings.Repeat("d", 76) }},
		{"relative command", func(c *netns.Config) { c.Command = "tiermesh" }},
		{"negative time", func(c *netns.Config) { c.StandInAfter = -time.Second }},
	} {
		c := good
		row.change(&c)
		if err := c.Validate(); !errors.Is(err, netns.ErrConfig) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
