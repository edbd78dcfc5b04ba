package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// File names in an authority's and in a node's directory.
const (
	fileCACert   = "ca.crt"
	fileCAKey    = "ca.key"
	fileNodeCert = "node.crt"
	fileNodeKey  = "node.key"
	fileSiteKey  = "site.key"
	fileSitePub  = "site.pub"
)

const (
	caValidFor   = 20 * 365 * 24 * time.Hour
	nodeValidFor = 2 * 365 * 24 * time.Hour
	backdate     = time.Hour // clocks of cut-off sites drift
)

// CA is a federation's certificate authority.
type CA struct {
	Federation string
	cert       *x509.Certificate
	key        *ecdsa.PrivateKey
}

// InitCA creates an authority in dir: ca.crt and ca.key, both or neither. It
// overwrites nothing. The error wraps [ErrExists] or [ErrNoIdentity].
func InitCA(dir, federation string, now time.Time) error {
	if err := validFederation(federation); err != nil {
		return err
	}
	for _, name := range []string{fileCAKey, fileCACert} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%w: %s holds a key or certificate already; choose another directory", ErrExists, dir)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make CA key: %w", err)
	}
	tmpl := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "tiermesh CA of " + federation},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caValidFor),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{{Scheme: "spiffe", Host: federation}},
	}
	der, err := sign(tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := keyFile(fileCAKey, key)
	if err != nil {
		return err
	}
	return place(dir, []file{private, certFile(fileCACert, der)}, nil)
}

func sign(tmpl, parent *x509.Certificate, pub, signer any) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("make serial: %w", err)
	}
	tmpl.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return der, nil
}

// OpenCA opens an authority that InitCA made. The error wraps [ErrCredentials].
func OpenCA(dir string) (*CA, error) {
	cert, err := readCert(filepath.Join(dir, fileCACert))
	if err != nil {
		return nil, fmt.Errorf("%w (run: tiermesh ca init)", err)
	}
	k, err := readKey(filepath.Join(dir, fileCAKey))
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) || len(cert.URIs) != 1 {
		return nil, fmt.Errorf("%w: %s: key and certificate do not belong together", ErrCredentials, dir)
	}
	return &CA{Federation: cert.URIs[0].Host, cert: cert, key: key}, nil
}

// IssueConfig says what to issue.
type IssueConfig struct {
	ID ID
	// OutDir receives node.crt, node.key, ca.crt, site.key and site.pub. Where it
	// holds those of the same node, its certificate is renewed and its keys stay.
	OutDir string
	// SiteKeyFrom is the directory of a node of the same site, whose site.key to
	// share: every node of a site signs with the same one. Empty keeps OutDir's or
	// makes a new one.
	SiteKeyFrom string
	// Check is given the site's public key when all is ready and nothing is in its
	// place yet; its error ends the issue, and nothing was written. Nil checks nothing.
	Check func(sitePublic []byte) error
	Now   time.Time
	// ValidFor is the certificate's validity; zero means two years.
	ValidFor time.Duration
}

// Issue makes a node's certificate and keys, all files or none. The error wraps
// [ErrFederation], [ErrNoIdentity], [ErrCredentials], or is that of Check.
func (ca *CA) Issue(cfg IssueConfig) error {
	if err := cfg.ID.Validate(); err != nil {
		return err
	}
	if cfg.ID.Federation != ca.Federation {
		return fmt.Errorf("%w: the authority is of %q, not %q", ErrFederation, ca.Federation, cfg.ID.Federation)
	}
	if cfg.ValidFor == 0 {
		cfg.ValidFor = nodeValidFor
	}
	if err := cfg.checkOwners(); err != nil {
		return err
	}
	site, err := siteKey(cfg)
	if err != nil {
		return err
	}
	key, err := nodeKey(cfg.OutDir)
	if err != nil {
		return err
	}
	uri, err := url.Parse(cfg.ID.String())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	der, err := sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: fmt.Sprintf("site %s node %d", cfg.ID.Site, cfg.ID.Node)},
		NotBefore: cfg.Now.Add(-backdate), NotAfter: cfg.Now.Add(cfg.ValidFor),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:        []*url.URL{uri},
	}, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return err
	}
	files, err := ca.credentials(site, key, der)
	if err != nil {
		return err
	}
	public := site.Public().(ed25519.PublicKey)
	return place(cfg.OutDir, files, func() error {
		if cfg.Check == nil {
			return nil
		}
		return cfg.Check(public)
	})
}

// credentials are a node's files. The certificate comes last: a directory that has
// one is complete.
func (ca *CA) credentials(site ed25519.PrivateKey, key *ecdsa.PrivateKey, cert []byte) ([]file, error) {
	pub, err := x509.MarshalPKIXPublicKey(site.Public())
	if err != nil {
		return nil, fmt.Errorf("encode site key: %w", err)
	}
	siteKey, err := keyFile(fileSiteKey, site)
	if err != nil {
		return nil, err
	}
	nodeKey, err := keyFile(fileNodeKey, key)
	if err != nil {
		return nil, err
	}
	return []file{siteKey, {fileSitePub, "PUBLIC KEY", pub, 0o644}, certFile(fileCACert, ca.cert.Raw), nodeKey, certFile(fileNodeCert, cert)}, nil
}

// checkOwners refuses the directory of another node, or a site key of another site.
func (c IssueConfig) checkOwners() error {
	owner := func(dir string) (ID, bool) {
		cert, err := readCert(filepath.Join(dir, fileNodeCert))
		if err != nil {
			return ID{}, false
		}
		id, err := FromCertificate(cert)
		return id, err == nil
	}
	if id, ok := owner(c.OutDir); ok && id != c.ID {
		return fmt.Errorf("%w: %s holds those of %s; choose another directory", ErrCredentials, c.OutDir, id)
	}
	if id, ok := owner(c.SiteKeyFrom); c.SiteKeyFrom != "" && ok && (id.Site != c.ID.Site || id.Federation != c.ID.Federation) {
		return fmt.Errorf("%w: %s holds the site key of %s; take that of another node of %s", ErrCredentials, c.SiteKeyFrom, id.Site, c.ID.Site)
	}
	return nil
}

// nodeKey returns the key that the directory has, so that a renewal replaces nothing
// but the certificate, or a new one.
func nodeKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, fileNodeKey)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make node key: %w", err)
		}
		return key, nil
	}
	k, err := readKey(path)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not an ECDSA key", ErrCredentials, path)
	}
	return key, nil
}

// siteKey returns the site's signing key: shared, kept, or new.
func siteKey(cfg IssueConfig) (ed25519.PrivateKey, error) {
	from := cfg.SiteKeyFrom
	if from == "" {
		from = cfg.OutDir
		if _, err := os.Stat(filepath.Join(from, fileSiteKey)); errors.Is(err, os.ErrNotExist) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return key, err
		}
	}
	return readSiteKey(filepath.Join(from, fileSiteKey))
}

func readSiteKey(path string) (ed25519.PrivateKey, error) {
	k, err := readKey(path)
	if err != nil {
		return nil, err
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not an Ed25519 key", ErrCredentials, path)
	}
	return key, nil
}
