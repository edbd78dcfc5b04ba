package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// Alarms is the part of a node that shows its findings and takes note of who has seen
// them. They are of this node, and live as long as its process: what is found again
// after a start is a finding again.
type Alarms interface {
	// Alarms lists the node's findings, the latest last.
	Alarms(ctx context.Context) (AlarmList, error)
	// Acknowledge notes that somebody has seen to findings, all of them or none.
	Acknowledge(ctx context.Context, a AlarmAck) (AlarmList, error)
}

// Alarm is one finding of a node.
type Alarm struct {
	// ID names it: the same for as long as it is about the same.
	ID   string `json:"id"`
	Kind string `json:"kind"`
	Text string `json:"text"`
	// First and Last are when it was found, Times how often.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Times int       `json:"times"`
	// Ack says who has seen to it; nil for nobody. It ends when the finding says
	// something else.
	Ack *AckNote `json:"ack,omitempty"`
}

// AckNote says who acknowledged a finding.
type AckNote struct {
	Who  string    `json:"who"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
}

// AlarmList is a node's findings.
type AlarmList struct {
	Alarms []Alarm `json:"alarms"`
}

// AlarmAck acknowledges findings.
type AlarmAck struct {
	// IDs are findings, each by as much of its identifier as is enough.
	IDs []string `json:"ids"`
	Who string   `json:"who"`
	// Note is what was done about them.
	Note string `json:"note,omitempty"`
}

// The bounds of an [AlarmAck].
const (
	ackIDsMax  = 256
	ackWhoMax  = 128
	ackNoteMax = 2048
)

// alarmPath is of this node, as its findings are.
const alarmPath = "/v1/alarms"

// ofThisNode reports whether a request is about the node that is asked, and not about
// its site.
func ofThisNode(path string) bool {
	return path == repairPath || path == alarmPath || strings.HasPrefix(path, alarmPath+":")
}

func (s *Server) alarmRoutes(mux *http.ServeMux) {
	mux.Handle("GET "+alarmPath, s.handle(func(r *http.Request) (any, error) { return s.cfg.Backend.Alarms(r.Context()) }))
	mux.Handle("POST "+alarmPath+":ack", s.handle(func(r *http.Request) (any, error) {
		var a AlarmAck
		if err := body(r, &a); err != nil {
			return nil, err
		}
		a.Who, a.Note = strings.TrimSpace(a.Who), strings.TrimSpace(a.Note)
		switch {
		case len(a.IDs) == 0 || len(a.IDs) > ackIDsMax:
			return nil, fmt.Errorf("%w: ids: %d of them: want 1 to %d", ErrInvalid, len(a.IDs), ackIDsMax)
		case a.Who == "" || len(a.Who) > ackWhoMax || !utf8.ValidString(a.Who):
			return nil, fmt.Errorf("%w: who: want who has seen to it, at most %d bytes", ErrInvalid, ackWhoMax)
		case len(a.Note) > ackNoteMax || !utf8.ValidString(a.Note):
			return nil, fmt.Errorf("%w: note of %d bytes: want at most %d", ErrInvalid, len(a.Note), ackNoteMax)
		}
		return s.cfg.Backend.Acknowledge(r.Context(), a)
	}))
}

// Alarms lists the node's findings.
func (c *Client) Alarms(ctx context.Context) (out AlarmList, err error) {
	return out, c.do(ctx, http.MethodGet, alarmPath, nil, &out)
}

// Acknowledge notes that somebody has seen to findings of the node.
func (c *Client) Acknowledge(ctx context.Context, a AlarmAck) (out AlarmList, err error) {
	return out, c.do(ctx, http.MethodPost, alarmPath+":ack", a, &out)
}
