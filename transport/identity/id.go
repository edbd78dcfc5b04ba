package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
)

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrCredentials reports files that cannot be used: missing, unreadable,
	// not matching each other.
	ErrCredentials = errors.New("identity: unusable credentials")
	// ErrExpired reports a certificate outside its validity.
	ErrExpired = errors.New("identity: certificate expired or not yet valid")
	// ErrUntrusted reports a certificate that the federation's CA did not issue.
	ErrUntrusted = errors.New("identity: certificate of another authority")
	// ErrFederation reports a certificate of another federation.
	ErrFederation = errors.New("identity: another federation")
	// ErrNoIdentity reports a certificate without exactly one site identity.
	ErrNoIdentity = errors.New("identity: certificate names no site")
	// ErrExists refuses to overwrite an authority.
	ErrExists = errors.New("identity: authority exists")
)

// ID is a node's identity.
type ID struct {
	Federation string
	Site       tiers.SiteID
	Node       uint32
}

// String returns the identity's URI.
func (i ID) String() string {
	return fmt.Sprintf("spiffe://%s/site/%s/node/%d", i.Federation, i.Site, i.Node)
}

// Validate checks the parts. The error wraps [ErrNoIdentity].
func (i ID) Validate() error {
	if err := validFederation(i.Federation); err != nil {
		return err
	}
	if err := i.Site.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	if i.Node == 0 {
		return fmt.Errorf("%w: node numbers start at 1", ErrNoIdentity)
	}
	return nil
}

func validFederation(name string) error {
	ok := len(name) > 0 && len(name) <= 128
	for _, c := range name {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	}
	if !ok {
		return fmt.Errorf("%w: federation %q: want 1 to 128 of a-z, 0-9, '-' and '.'", ErrNoIdentity, name)
	}
	return nil
}

// ParseURI is the inverse of [ID.String]. The error wraps [ErrNoIdentity].
func ParseURI(u *url.URL) (ID, error) {
	parts := strings.Split(u.Path, "/")
	if u.Scheme != "spiffe" || len(parts) != 5 || parts[1] != "site" || parts[3] != "node" {
		return ID{}, fmt.Errorf("%w: %q is not spiffe://federation/site/CODE/node/N", ErrNoIdentity, u)
	}
	n, err := strconv.ParseUint(parts[4], 10, 32)
	if err != nil {
		return ID{}, fmt.Errorf("%w: node %q", ErrNoIdentity, parts[4])
	}
	id := ID{Federation: u.Host, Site: tiers.SiteID(parts[2]), Node: uint32(n)}
	return id, id.Validate()
}

// FromCertificate reads the one identity that a certificate carries.
func FromCertificate(c *x509.Certificate) (ID, error) {
	if len(c.URIs) != 1 {
		return ID{}, fmt.Errorf("%w: %d URIs, want 1", ErrNoIdentity, len(c.URIs))
	}
	return ParseURI(c.URIs[0])
}
