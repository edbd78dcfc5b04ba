package aggregate

import (
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindContact is the document kind of what a site says of its contact with a site
// below it.
const KindContact = "contact"

// IndexContact lists contacts; a value holds all that is said, see [ReadContact].
const IndexContact = "aggregate.contact"

const (
	keyPeer   = "peer"
	keyLostMS = "lost_ms"
)

// Contact is what a site says of a site below it.
type Contact struct {
	Peer tiers.SiteID
	// LostMS is since when there is no contact, in Unix milliseconds; 0 while there
	// is.
	LostMS int64
}

// ContactDoc is the document of a site's contact with peer.
func ContactDoc(peer tiers.SiteID) tiers.DocID { return tiers.NewDocID(KindContact, string(peer)) }

// Ops returns the operations that say it.
func (c Contact) Ops() []crdt.Op {
	return []crdt.Op{
		{Kind: crdt.OpPut, Key: keyPeer, Value: string(c.Peer)},
		{Kind: crdt.OpPut, Key: keyLostMS, Value: max(c.LostMS, 0)},
	}
}

// FoldContact derives the view of a contact.
func FoldContact(s *crdt.Source) (crdt.View, error) {
	c := Contact{Peer: tiers.SiteID(s.Document.Root.String(keyPeer))}
	if v := s.Document.Root.Field(keyLostMS); len(v) > 0 {
		c.LostMS, _ = v[0].Node.Scalar.(int64)
	}
	if c.Peer.Validate() != nil { // nobody is told of nobody
		return s.FieldView()
	}
	return s.FieldView(crdt.IndexEntry{Name: IndexContact, Value: c.value()})
}

func (c Contact) value() string {
	return string(c.Peer) + "/" + strconv.FormatInt(max(c.LostMS, 0), 10)
}

// ReadContact reads a value of [IndexContact]; false when it is malformed.
func ReadContact(value string) (Contact, bool) {
	peer, text, ok := strings.Cut(value, "/")
	ms, err := strconv.ParseInt(text, 10, 64)
	return Contact{tiers.SiteID(peer), ms}, ok && err == nil && ms >= 0
}
