package transport

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"

	"github.com/tiermesh/tiermesh/transport/identity"
)

// Refusal is a caller whose certificate this end does not accept. Its identity is what
// it claims, not who it is; the zero value when it claims nothing that can be read.
type Refusal struct {
	From   netip.Addr
	Claims identity.ID
	Err    error // wraps one of identity's sentinels
}

// Credentials returns those in force.
func (e *Endpoint) Credentials() *identity.Credentials { return e.creds.Load() }

// Renew puts other credentials of the same node in force, for connections from now on;
// those that stand go on. The error wraps [identity.ErrCredentials].
func (e *Endpoint) Renew(c *identity.Credentials) error {
	if err := c.Replaces(e.creds.Load()); err != nil {
		return err
	}
	e.creds.Store(c)
	return nil
}

// dialTLS is the configuration of connections that this end opens: each one shows and
// asks for what is in force when it begins.
func (e *Endpoint) dialTLS() *tls.Config {
	conf := e.creds.Load().TLS(alpnLink)
	conf.Certificates = nil
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &e.creds.Load().Certificate, nil
	}
	conf.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error { //nolint:gosec // nothing is resumed: there is no session cache
		return e.creds.Load().VerifyPeer(raw, chains)
	}
	return conf
}

// listenTLS is likewise that of connections that others open. Whom it refuses learns of
// a bad certificate only; the reason is told here.
func (e *Endpoint) listenTLS() *tls.Config {
	conf := e.creds.Load().TLS(alpnLink)
	conf.NextProtos = []string{alpnLink, alpnNodes, alpnUnnumbered}
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) { //nolint:gosec // nothing is resumed: no tickets
		creds := e.creds.Load()
		one := creds.TLS(alpnLink)
		one.NextProtos = conf.NextProtos
		from := netip.Addr{}
		if hello.Conn != nil {
			from = addrOf(hello.Conn.RemoteAddr())
		}
		one.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error { //nolint:gosec // likewise
			err := creds.VerifyPeer(raw, chains)
			if err != nil && e.cfg.Refused != nil {
				e.cfg.Refused(Refusal{from, claimed(raw), err})
			}
			return err
		}
		return one, nil
	}
	return conf
}

func claimed(raw [][]byte) (id identity.ID) {
	if len(raw) > 0 {
		if cert, err := x509.ParseCertificate(raw[0]); err == nil {
			id, _ = identity.FromCertificate(cert) // the zero value when it names nobody
		}
	}
	return id
}
