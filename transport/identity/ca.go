package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
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

// InitCA creates an authority in dir: ca.crt and ca.key. It overwrites nothing.
// The error wraps [ErrExists] or [ErrNoIdentity].
func InitCA(dir, federation string, now time.Time) error {
	if err := validFederation(federation); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, fileCAKey)); err == nil {
		return fmt.Errorf("%w: %s holds a key already; choose another directory", ErrExists, dir)
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
	return errors.Join(
		os.MkdirAll(dir, 0o700),
		writeKey(filepath.Join(dir, fileCAKey), key),
		writePEM(filepath.Join(dir, fileCACert), "CERTIFICATE", der, 0o644))
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
	// OutDir receives node.crt, node.key, ca.crt, site.key and site.pub.
	OutDir string
	// SiteKeyFrom is a directory with the site.key to share: every node of a
	// site signs with the same one. Empty keeps OutDir's or makes a new one.
	SiteKeyFrom string
	Now         time.Time
	// ValidFor is the certificate's validity; zero means two years.
	ValidFor time.Duration
}

// Issue makes a node's certificate and keys. The error wraps [ErrFederation],
// [ErrNoIdentity] or [ErrCredentials].
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
	site, err := siteKey(cfg)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make node key: %w", err)
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
	pub, err := x509.MarshalPKIXPublicKey(site.Public())
	if err != nil {
		return fmt.Errorf("encode site key: %w", err)
	}
	out := func(name string) string { return filepath.Join(cfg.OutDir, name) }
	// The certificate comes last: a directory that has one is complete.
	if err := errors.Join(
		os.MkdirAll(cfg.OutDir, 0o700),
		writeKey(out(fileSiteKey), site),
		writePEM(out(fileSitePub), "PUBLIC KEY", pub, 0o644),
		writePEM(out(fileCACert), "CERTIFICATE", ca.cert.Raw, 0o644),
		writeKey(out(fileNodeKey), key)); err != nil {
		return err
	}
	return writePEM(out(fileNodeCert), "CERTIFICATE", der, 0o644)
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

func writeKey(path string, key any) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600)
}

// writePEM replaces a file at once and durably.
func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func readBlock(path, kind string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%w: %s holds no PEM block %q", ErrCredentials, path, kind)
	}
	return block.Bytes, nil
}

func readCert(path string) (*x509.Certificate, error) {
	der, err := readBlock(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCredentials, path, err)
	}
	return c, nil
}

func readKey(path string) (any, error) {
	der, err := readBlock(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCredentials, path, err)
	}
	return k, nil
}
