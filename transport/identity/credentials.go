package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Credentials are what a node proves itself with.
type Credentials struct {
	ID          ID
	Certificate tls.Certificate
	Roots       *x509.CertPool
	// SiteKey signs the site's checkpoints.
	SiteKey ed25519.PrivateKey
}

// Load reads the directory that [CA.Issue] wrote and checks that its files
// belong together. The error names the file, and wraps [ErrCredentials],
// [ErrExpired], [ErrUntrusted] or [ErrNoIdentity].
func Load(dir string) (*Credentials, error) {
	path := func(name string) string { return filepath.Join(dir, name) }
	cert, err := readCert(path(fileNodeCert))
	if err != nil {
		return nil, fmt.Errorf("%w (run: tiermesh ca issue)", err)
	}
	root, err := readCert(path(fileCACert))
	if err != nil {
		return nil, err
	}
	key, err := readKey(path(fileNodeKey))
	if err != nil {
		return nil, err
	}
	if k, ok := key.(*ecdsa.PrivateKey); !ok || !k.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%w: %s does not belong to %s", ErrCredentials, path(fileNodeKey), path(fileNodeCert))
	}
	c := &Credentials{
		Certificate: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert},
		Roots:       x509.NewCertPool(),
	}
	c.Roots.AddCert(root)
	if c.SiteKey, err = readSiteKey(path(fileSiteKey)); err != nil {
		return nil, err
	}
	if c.ID, err = verify(cert, c.Roots, time.Now()); err != nil {
		return nil, fmt.Errorf("%s: %w", path(fileNodeCert), err)
	}
	return c, nil
}

// SitePublicKey returns the key that verifies the site's checkpoints.
func (c *Credentials) SitePublicKey() []byte { return c.SiteKey.Public().(ed25519.PublicKey) }

// Derive returns a secret of this node for one purpose, the same at every
// start: HMAC-SHA-256 of the purpose and the node's number under the site's key.
func (c *Credentials) Derive(purpose string) (out [32]byte) {
	h := hmac.New(sha256.New, c.SiteKey.Seed())
	fmt.Fprintf(h, "tiermesh %s %d", purpose, c.ID.Node)
	h.Sum(out[:0])
	return out
}

// verify checks that a certificate is of this authority and within its
// validity, and returns whose it is.
func verify(cert *x509.Certificate, roots *x509.CertPool, now time.Time) (ID, error) {
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ID{}, fmt.Errorf("%w: valid from %s to %s; issue a new one", ErrExpired,
			cert.NotBefore.Format(time.DateOnly), cert.NotAfter.Format(time.DateOnly))
	case err != nil:
		return ID{}, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return FromCertificate(cert)
}

// Replaces reports whether these credentials may take the place of others of the same
// node while it runs: the identity and the site's key are the same. The error wraps
// [ErrCredentials] and says what differs.
func (c *Credentials) Replaces(old *Credentials) error {
	if c.ID != old.ID {
		return fmt.Errorf("%w: they are of %s, this node is %s", ErrCredentials, c.ID, old.ID)
	}
	if !c.SiteKey.Equal(old.SiteKey) {
		return fmt.Errorf("%w: %s is another key than the one that the site signs with", ErrCredentials, fileSiteKey)
	}
	return nil
}

// VerifyPeer is what both ends of a link ask of the other's certificate; see
// [tls.Config.VerifyPeerCertificate]. The error wraps one of the sentinels.
func (c *Credentials) VerifyPeer(raw [][]byte, _ [][]*x509.Certificate) error {
	if len(raw) == 0 {
		return fmt.Errorf("%w: the peer sent no certificate", ErrNoIdentity)
	}
	cert, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	// What the certificate claims comes first: "another federation" tells an
	// operator more than "another authority".
	id, err := FromCertificate(cert)
	if err != nil {
		return err
	}
	if id.Federation != c.ID.Federation {
		return fmt.Errorf("%w: the peer is of %q, this node of %q", ErrFederation, id.Federation, c.ID.Federation)
	}
	_, err = verify(cert, c.Roots, time.Now())
	return err
}

// TLS returns the configuration for both ends of a link: TLS 1.3, certificates
// both ways, names ignored in favour of the identity.
func (c *Credentials) TLS(protocol string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{c.Certificate},
		ClientAuth:             tls.RequireAnyClientCert, // VerifyPeer checks it, with an error that says what is wrong
		InsecureSkipVerify:     true,                     //nolint:gosec // likewise: host names play no part
		VerifyPeerCertificate:  c.VerifyPeer,
		NextProtos:             []string{protocol},
		SessionTicketsDisabled: true, // every link proves its certificate anew
	}
}
