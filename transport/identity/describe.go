package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Description is what a directory of credentials, or of an authority, says of itself.
type Description struct {
	// ID is a node's URI, or spiffe://FEDERATION of an authority.
	ID        string    `json:"id"`
	Authority bool      `json:"authority"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Serial    string    `json:"serial"`
	// Key is the SHA-256 of the certificate's public key, SiteKey the site's Ed25519
	// public key, both in hexadecimal; an authority has no site key.
	Key     string `json:"key_sha256"`
	SiteKey string `json:"site_key,omitempty"`
	Issuer  string `json:"issuer"`
	// IssuerKey is the SHA-256 of the issuer's public key: equal where two nodes are
	// of one authority.
	IssuerKey string `json:"issuer_key_sha256"`
	// Problem says why the files cannot be used, such as a certificate that has
	// expired; empty when they can.
	Problem string `json:"problem,omitempty"`
}

// Describe reads a directory that [InitCA] or [CA.Issue] wrote. Files that can be
// read but not used are described, with the Problem. The error wraps
// [ErrCredentials].
func Describe(dir string) (Description, error) {
	root, err := readCert(filepath.Join(dir, fileCACert))
	if err != nil {
		return Description{}, err
	}
	cert := root
	if _, err := os.Stat(filepath.Join(dir, fileNodeCert)); err == nil {
		if cert, err = readCert(filepath.Join(dir, fileNodeCert)); err != nil {
			return Description{}, err
		}
	}
	d := Description{
		Authority: cert == root, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Serial: cert.SerialNumber.Text(16),
		Key: keySum(cert), Issuer: cert.Issuer.CommonName, IssuerKey: keySum(root),
	}
	for _, u := range cert.URIs {
		d.ID = u.String()
	}
	if d.Authority {
		if _, err := OpenCA(dir); err != nil {
			d.Problem = err.Error()
		}
		return d, nil
	}
	if key, err := readSiteKey(filepath.Join(dir, fileSiteKey)); err == nil {
		d.SiteKey = hex.EncodeToString((&Credentials{SiteKey: key}).SitePublicKey())
	}
	if _, err := Load(dir); err != nil {
		d.Problem = err.Error()
	}
	return d, nil
}

func keySum(c *x509.Certificate) string {
	return fmt.Sprintf("%x", sha256.Sum256(c.RawSubjectPublicKeyInfo))
}
