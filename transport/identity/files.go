package identity

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// file is one PEM file of a directory.
type file struct {
	name string
	kind string // of its PEM block
	der  []byte
	mode os.FileMode
}

func certFile(name string, der []byte) file { return file{name, "CERTIFICATE", der, 0o644} }

func keyFile(name string, key any) (file, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return file{}, fmt.Errorf("encode %s: %w", name, err)
	}
	return file{name, "PRIVATE KEY", der, 0o600}, nil
}

// place puts files into dir durably, all or none. They are written beside first;
// then ready is asked, and its error leaves everything as it was; then they are
// moved into place: a directory that is new at once, else file by file, in order.
func place(dir string, files []file, ready func() error) (err error) {
	parent, isNew := filepath.Dir(filepath.Clean(dir)), false
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		isNew = true
	}
	beside := dir
	if isNew {
		beside = parent
	}
	if err := os.MkdirAll(beside, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	stage, err := os.MkdirTemp(beside, ".tiermesh-") // only its owner may read it
	if err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	for _, f := range files {
		if err := f.write(stage); err != nil {
			return err
		}
	}
	if err := syncDir(stage); err != nil {
		return err
	}
	if ready != nil {
		if err := ready(); err != nil {
			return err
		}
	}
	if isNew {
		if err := os.Rename(stage, dir); err != nil {
			return fmt.Errorf("write %s: %w", dir, err)
		}
		return syncDir(parent)
	}
	if err := moveAll(stage, dir, files); err != nil {
		return err
	}
	return syncDir(dir)
}

// moveAll moves files into a directory, and on an error puts back what was there.
func moveAll(from, to string, files []file) error {
	kept := filepath.Join(from, "kept")
	if err := os.Mkdir(kept, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	for i, f := range files {
		path := filepath.Join(to, f.name)
		err := os.Link(path, filepath.Join(kept, f.name))
		if err == nil || errors.Is(err, os.ErrNotExist) {
			err = os.Rename(filepath.Join(from, f.name), path)
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("write %s: %w", path, err)
		for _, f := range files[:i] {
			back := os.Rename(filepath.Join(kept, f.name), filepath.Join(to, f.name))
			if errors.Is(back, os.ErrNotExist) {
				back = os.Remove(filepath.Join(to, f.name))
			}
			err = errors.Join(err, back)
		}
		return err
	}
	return nil
}

func (f file) write(dir string) error {
	path := filepath.Join(dir, f.name)
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = pem.Encode(out, &pem.Block{Type: f.kind, Bytes: f.der})
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
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
