package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// PutBlob keeps a part of an attachment in this site's bulk stream and returns its
// name. One that is there already costs nothing. The error wraps [event.ErrInvalid]
// or what a write returns.
func (n *Node) PutBlob(ctx context.Context, data []byte) (tiers.DocID, error) {
	ops, err := event.BlobOps(data)
	if err != nil {
		return "", err
	}
	id := event.BlobID(data)
	here, err := n.group.Store().Index(store.IndexQuery{Name: event.KindBlob, Prefix: id.Name()})
	if err != nil {
		return "", err
	}
	for _, h := range here {
		if h.Key.Stream.Site == n.creds.ID.Site {
			return id, nil
		}
	}
	_, err = n.docs.write(ctx, string(id), Edit{Key: docKey(n.creds.ID.Site, tiers.ClassBulk, id), Create: true, Ops: ops})
	if errors.Is(err, ErrExists) {
		err = nil
	}
	return id, err
}

// Blob returns the bytes of a part, from whichever bulk stream this site holds it
// in, after it compared them with the part's name. The error wraps
// [store.ErrNotFound].
func (n *Node) Blob(id tiers.DocID) ([]byte, error) {
	keys, err := n.keysOf(id, tiers.ClassBulk) // of one name there is one content
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: this site holds no %s", store.ErrNotFound, id)
	}
	k := keys[0]
	history, err := n.group.Store().Changes(k)
	if err != nil {
		return nil, err
	}
	d, err := n.docs.isolated.Read(history.Raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", k, err)
	}
	return event.BlobData(id, d)
}

// Attach notes in an event that a file is attached to it. Its parts must be here,
// and be together what it says; they are read one after the other. The error wraps
// [event.ErrInvalid], [event.ErrNotNow] while parts are missing, or is as
// [Node.ActOnEvent]'s.
func (n *Node) Attach(ctx context.Context, key string, id tiers.DocID, a event.Attachment, who string) (replication.Written, error) {
	k, v, err := n.ownEvent(id)
	if err != nil {
		return replication.Written{}, err
	}
	a.ID, a.Site = event.AttachmentID(a.SHA256), ""
	if a.URL == "" {
		a.Site = n.creds.ID.Site
	}
	if err := a.Valid(); err != nil {
		return replication.Written{}, err
	}
	if err := n.checkParts(a); err != nil {
		return replication.Written{}, err
	}
	for _, old := range v.Attachments {
		if old.ID == a.ID && old.Name == a.Name {
			return replication.Written{Stream: k.Stream, Doc: k.Doc}, nil
		}
	}
	if len(v.Attachments) >= event.AttachmentsMax {
		return replication.Written{}, fmt.Errorf("%w: it has %d attachments: want at most %d", event.ErrNotNow, len(v.Attachments), event.AttachmentsMax)
	}
	act := event.Action{At: n.group.Clock().Now(), By: n.creds.ID.Site, Kind: event.KindAttach}
	act.Who, act.Attachment = who, &a
	op, err := event.ActionOp(act)
	if err != nil {
		return replication.Written{}, err
	}
	return n.writeOne(ctx, key, Edit{Key: k, Ops: []crdt.Op{op}})
}

// checkParts reads the parts of an attachment and compares.
func (n *Node) checkParts(a event.Attachment) error {
	whole := sha256.New()
	for i, p := range a.Parts {
		data, err := n.Blob(tiers.NewDocID(event.KindBlob, p))
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: part %d of %d is not here: send it first", event.ErrNotNow, i+1, len(a.Parts))
		}
		if err != nil {
			return err
		}
		if int64(len(data)) != a.PartSize(i) {
			return fmt.Errorf("%w: parts: number %d has %d bytes: want %d", event.ErrInvalid, i+1, len(data), a.PartSize(i))
		}
		_, _ = whole.Write(data)
	}
	if sum := hex.EncodeToString(whole.Sum(nil)); len(a.Parts) > 0 && sum != a.SHA256 {
		return fmt.Errorf("%w: sha256 %s: its parts together have %s", event.ErrInvalid, a.SHA256, sum)
	}
	return nil
}

// Arrived counts the parts of an attachment that this site holds, and says whether
// the rest comes here at all: the bulk stream of a site goes to the sites above it.
func (n *Node) Arrived(a event.Attachment) (here int, comes bool, err error) {
	for _, p := range a.Parts {
		hits, err := n.group.Store().Index(store.IndexQuery{Name: event.KindBlob, Prefix: p, Limit: 1})
		if err != nil {
			return here, false, err
		}
		here += len(hits)
	}
	stream := tiers.StreamID{Site: a.Site, Class: tiers.ClassBulk}
	return here, here == len(a.Parts) || n.Topology().InAudience(stream, n.creds.ID.Site), nil
}
