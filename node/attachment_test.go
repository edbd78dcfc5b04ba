package node_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// attachment makes the reference of a file and its parts.
func attachment(name string, data []byte) (a event.Attachment, parts [][]byte) {
	sum := sha256.Sum256(data)
	a = event.Attachment{Name: name, Type: "image/jpeg", Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	for rest := data; len(rest) > 0; {
		part := rest[:min(len(rest), event.PartBytes)]
		rest = rest[len(part):]
		parts = append(parts, part)
		a.Parts = append(a.Parts, event.BlobID(part).Name())
	}
	return a, parts
}

// TestAttachmentAcrossCut: a file that is attached at a cut-off township is noted in
// the event when all its parts are there and are what they are said to be; after the
// heal the sites above have every byte of it, and until then say how much of it they
// have.
func TestAttachmentAcrossCut(t *testing.T) {
	m := newMesh(t)
	id := m.reported(township, at(0, "甲"))
	data := bytes.Repeat([]byte("现场照片\x00\xff"), 90_000) // 1.2 MB
	a, parts := attachment("现场.jpg", data)
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	b := m.Node(township).Backend()
	attach := func(key string, a event.Attachment) (api.EventResult, error) {
		return b.Attach(limited(t), api.AttachRequest{Key: key, Event: id, Attachment: a, Who: "张三"})
	}
	put := func(data []byte) {
		t.Helper()
		if _, err := b.PutBlob(limited(t), data); err != nil {
			t.Fatal(err)
		}
	}
	put(parts[0])
	put(parts[1])
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	if _, err := attach("early", a); !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "part 3 of 3 is not here") {
		t.Errorf("with a part missing: %v", err)
	}
	put(parts[2])
	put(parts[2])
	badAttachments(t, a, attach)
	for _, key := range []string{"good", "good", "again"} {
		if _, err := attach(key, a); err != nil {
			t.Fatal(err)
		}
	}
	a = m.event(township, id).Attachments[0]
	if here, comes, err := m.Node(district).Arrived(a); here != 2 || !comes || err != nil {
		t.Errorf("the district has %d of 3 parts, comes %v, %v", here, comes, err)
	}
	m.Heal()
	m.wait("sites agree", m.agreed)
	for _, site := range []tiers.SiteID{township, district, city} {
		m.wait("views are made", func() bool { return m.Node(site).Group().Store().Counts().Dirty == 0 })
		list, err := m.Node(site).Backend().Attachments(limited(t), id)
		if err != nil || len(list.Attachments) != 1 || list.Attachments[0].PartsHere != 3 || list.Attachments[0].Name != "现场.jpg" {
			t.Fatalf("%s: %+v, %v", site, list, err)
		}
		var got []byte
		for _, p := range list.Attachments[0].Parts {
			part, err := m.Node(site).Backend().Blob(limited(t), tiers.NewDocID(event.KindBlob, p))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%s has other bytes", site)
		}
	}
}

// badAttachments attaches what is not what it says.
func badAttachments(t *testing.T, a event.Attachment, attach func(string, event.Attachment) (api.EventResult, error)) {
	t.Helper()
	for name, row := range map[string]struct {
		change func(*event.Attachment)
		want   string
	}{
		"another hash":  {func(a *event.Attachment) { a.SHA256 = strings.Repeat("0", 64) }, "parts together have"},
		"another order": {func(a *event.Attachment) { a.Parts = []string{a.Parts[1], a.Parts[0], a.Parts[2]} }, "parts together have"},
		"another size":  {func(a *event.Attachment) { a.Bytes++ }, "number 3 has"},
		"no name":       {func(a *event.Attachment) { a.Name = "" }, "name is empty"},
		"no part":       {func(a *event.Attachment) { a.Parts = a.Parts[:2] }, "want 3"},
	} {
		bad := a
		row.change(&bad)
		if _, err := attach(name, bad); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttachedAbove: what a district attaches to an event of a township does not come
// down, and the township is told so.
func TestAttachedAbove(t *testing.T) {
	m := newMesh(t)
	id := m.reported(township, at(0, "甲"))
	m.wait("sites agree", m.agreed)
	b := m.Node(township).Backend()
	small, parts := attachment("b.jpg", []byte("x"))
	if _, err := m.Node(district).Backend().PutBlob(limited(t), parts[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Node(district).Backend().Attach(limited(t), api.AttachRequest{Key: "d", Event: id, Attachment: small}); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	list, err := b.Attachments(limited(t), id)
	if err != nil || len(list.Attachments) != 1 || list.Attachments[0].PartsHere != 0 || list.Attachments[0].Comes {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := b.Blob(limited(t), tiers.NewDocID(event.KindBlob, small.Parts[0])); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// TestCertainDuplicates: a site that may merges two reports of one source, also of
// two sites below it, without being asked, and leaves alone what is only alike.
func TestCertainDuplicates(t *testing.T) {
	m := newMeshWith(t, local.Config{Configured: local.Configured{Duplicates: node.Duplicates{Merge: true}}})
	first, again := at(0, "甲"), at(1, "乙")
	first.SourceKey, again.SourceKey = "12345-7", "12345-7"
	a, b := m.reported(district, first), m.reported(township, again)
	c := m.reported(township, at(2, "丙"))
	words := at(3, "丙")
	d := m.reported(township, words)
	m.wait("what is certain is merged", func() bool {
		va, err := m.Node(district).Backend().Suspects(limited(t), a)
		return err == nil && len(va.Suspects) == 1 && m.event(township, d).Into == c && m.event(district, b).Into == a
	})
	m.wait("sites agree", m.agreed)
	if v := m.event(city, c); v.Into != "" || len(v.Reporters) != 2 {
		t.Errorf("%+v", v)
	}
}

// TestDuplicatesConfig: values out of range are refused by name.
func TestDuplicatesConfig(t *testing.T) {
	for name, d := range map[string]node.Duplicates{
		"far": {Metres: 201}, "behind": {Metres: -1}, "never": {Within: "0s"}, "long": {Within: "25h"}, "no time": {Within: "soon"},
	} {
		if err := d.Validate(); !errors.Is(err, node.ErrConfig) || !strings.Contains(err.Error(), "duplicates") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (node.Duplicates{Metres: 50, Within: "30m"}).Validate(); err != nil {
		t.Error(err)
	}
}
