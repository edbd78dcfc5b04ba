package event

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/url"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Bounds of an attachment.
const (
	// AttachmentBytesMax is how large a file may be.
	AttachmentBytesMax = 64 << 20
	// PartBytes is how large its parts are, but the last: a part is one change.
	PartBytes = 512 << 10
	// AttachmentsMax bounds the attachments of one event.
	AttachmentsMax   = 256
	attachmentName   = 255
	attachmentIDText = "attachment:"
)

// Attachment refers to a file. Its bytes stand in parts, each a document of the bulk
// stream of the site where it was attached and named by its SHA-256; or they stand
// elsewhere, at URL, and this says only what they must be.
type Attachment struct {
	// ID follows from the content: it is what evidence refers to.
	ID    string `json:"id"`
	Name  string `json:"name"`
	Type  string `json:"type"`
	Bytes int64  `json:"bytes"`
	// SHA256 is that of all bytes, in lower case hexadecimal, as are Parts those of
	// the parts, in order.
	SHA256 string   `json:"sha256"`
	Parts  []string `json:"parts,omitempty"`
	// Site is whose bulk stream has the parts.
	Site tiers.SiteID `json:"site,omitempty"`
	URL  string       `json:"url,omitempty"`
}

// AttachmentID is the identifier of a content.
func AttachmentID(sha string) string { return attachmentIDText + sha[:min(16, len(sha))] }

// Valid reports what is wrong with a reference. The error wraps [ErrInvalid].
func (a Attachment) Valid() error {
	if err := checkText("name", a.Name, attachmentName, false); err != nil {
		return err
	}
	if a.Name == "" { // a blank one may stand in what was attached before
		return invalid("name", "name is empty")
	}
	if strings.ContainsAny(a.Name, "/\\\n\r") || a.Name == "." || a.Name == ".." {
		return invalid("name", "name %.64q: want a file's name without a folder", a.Name)
	}
	if _, _, err := mime.ParseMediaType(a.Type); err != nil || len(a.Type) > 128 {
		return invalid("type", "type %.64q: want a media type such as image/jpeg", a.Type)
	}
	if !isHash(a.SHA256) {
		return invalid("sha256", "sha256 %.80q: want 64 digits of lower case hexadecimal", a.SHA256)
	}
	if a.ID != AttachmentID(a.SHA256) {
		return invalid("id", "id %.64q: want %s", a.ID, AttachmentID(a.SHA256))
	}
	if a.URL != "" {
		u, err := url.Parse(a.URL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(a.URL) > 2048 {
			return invalid("url", "url %.64q: want http or https, at most 2048 bytes", a.URL)
		}
		if len(a.Parts) > 0 || a.Bytes < 0 {
			return invalid("url", "url: a file that stands elsewhere has no parts here, and no negative size")
		}
		return nil
	}
	if a.Bytes < 1 || a.Bytes > AttachmentBytesMax {
		return invalid("bytes", "bytes %d: want 1 to %d", a.Bytes, AttachmentBytesMax)
	}
	if want := int((a.Bytes + PartBytes - 1) / PartBytes); len(a.Parts) != want {
		return invalid("parts", "parts: %d for %d bytes: want %d of %d bytes, the last one of what is left", len(a.Parts), a.Bytes, want, PartBytes)
	}
	for i, p := range a.Parts {
		if !isHash(p) {
			return invalid("parts", "parts: number %d is %.80q: want its SHA-256", i+1, p)
		}
	}
	return nil
}

// PartSize is how many bytes part i has, from 0.
func (a Attachment) PartSize(i int) int64 {
	return min(PartBytes, a.Bytes-int64(i)*PartBytes)
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}

// KindBlob is the document kind of parts of attachments: one change, of one value.
const KindBlob = "blob"

const keyData = "data"

// BlobID is the document of a part, by what it holds.
func BlobID(data []byte) tiers.DocID {
	sum := sha256.Sum256(data)
	return tiers.NewDocID(KindBlob, hex.EncodeToString(sum[:]))
}

// BlobOps returns the operations that create a part. The error wraps [ErrInvalid].
func BlobOps(data []byte) ([]crdt.Op, error) {
	if len(data) == 0 || len(data) > PartBytes {
		return nil, invalid("data", "data: %d bytes: want 1 to %d", len(data), PartBytes)
	}
	return []crdt.Op{{Kind: crdt.OpPut, Key: keyData, Value: data}}, nil
}

// BlobData returns the bytes of a part. The error wraps [ErrInvalid] when they are
// not what its name says.
func BlobData(id tiers.DocID, d *crdt.Document) ([]byte, error) {
	for _, w := range d.Root.Field(keyData) {
		if b, ok := w.Node.Scalar.([]byte); ok && BlobID(b) == id {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%w: %s does not hold what its name says", ErrInvalid, id)
}

// BlobView is what is seen of a part: not its bytes.
type BlobView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Bytes  int          `json:"bytes"`
}

// FoldBlob derives a part's view; one whose bytes have not come is not listed.
func FoldBlob(s *crdt.Source) (crdt.View, error) {
	v := BlobView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site}
	data, err := BlobData(s.Doc, s.Document)
	if err != nil && s.Pending == 0 {
		return crdt.View{}, err
	}
	v.Bytes = len(data)
	b, merr := json.Marshal(v)
	if merr != nil {
		return crdt.View{}, fmt.Errorf("%w: %w", ErrInvalid, merr)
	}
	if err != nil {
		return crdt.View{JSON: b}, nil //nolint:nilerr // its bytes are on their way
	}
	return crdt.View{JSON: b, Index: []crdt.IndexEntry{{Name: KindBlob, Value: s.Doc.Name()}}}, nil
}
