package byzantine

import (
	"context"
	"errors"
	"fmt"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Conn is a link of a [Peer]'s.
type Conn struct {
	*transport.Link
	Peer *Peer
	// Theirs is what the site said of itself; nil before [Conn.Greet].
	Theirs *wire.Hello
}

// Say sends messages on the most urgent lane.
func (c *Conn) Say(ctx context.Context, messages ...wire.Message) error {
	for _, m := range messages {
		if _, err := c.Send(ctx, 0, m); err != nil {
			return err
		}
	}
	return nil
}

// Greet says hello, holding the streams given, and reads what the site answers until
// it has said hello, too.
func (c *Conn) Greet(ctx context.Context, holds ...tiers.StreamID) error {
	if err := c.Say(ctx, c.Peer.Hello(holds...)); err != nil {
		return err
	}
	var err error
	c.Theirs, err = Await[*wire.Hello](ctx, c)
	return err
}

// LackAll says that the peer holds nothing of what the site has, so that it is sent
// everything.
func (c *Conn) LackAll(ctx context.Context) error {
	v := &wire.Vectors{}
	for _, s := range c.Theirs.Streams {
		v.Streams = append(v.Streams, wire.StreamVector{Site: s.Site, Class: s.Class})
	}
	return c.Say(ctx, v)
}

// Await reads until a message of one type comes.
func Await[M wire.Message](ctx context.Context, c *Conn) (M, error) {
	for {
		m, _, err := c.Recv(ctx)
		if err != nil {
			var none M
			return none, err
		}
		if wanted, ok := m.(M); ok {
			return wanted, nil
		}
	}
}

// Flood says messages without end, and reads what comes back, until the link ends or
// ctx does.
func (c *Conn) Flood(ctx context.Context, next func(i int) wire.Message) {
	read := make(chan struct{})
	go func() { // ends with the link, or ctx
		defer close(read)
		for {
			if _, _, err := c.Recv(ctx); err != nil {
				return
			}
		}
	}()
	for i := 0; c.Say(ctx, next(i)) == nil; i++ {
	}
	<-read
}

// Verdict reads until the link ends and returns the code that the site gave, and
// its reason.
func (c *Conn) Verdict(ctx context.Context) (wire.Code, string, error) {
	for {
		_, _, err := c.Recv(ctx)
		var closed *transport.ClosedError
		switch {
		case err == nil:
		case !errors.As(err, &closed):
			return 0, "", err
		case !closed.Remote:
			return 0, "", fmt.Errorf("this end closed the link: %w", err)
		default:
			return closed.Code, closed.Reason, nil
		}
	}
}

// Write opens a stream and writes bytes to it as they are.
func (c *Conn) Write(ctx context.Context, b []byte) (transport.Raw, error) {
	r, err := c.OpenRaw(ctx)
	if err != nil {
		return nil, err
	}
	_, err = r.Write(b)
	return r, err
}
