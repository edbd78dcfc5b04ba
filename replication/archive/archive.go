package archive

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrDamaged reports a stream that is not a complete archive of version 1,
	// or whose bytes are not those that were packed.
	ErrDamaged = errors.New("archive: damaged")
	// ErrExists refuses to unpack over something.
	ErrExists = errors.New("archive: target exists")
	// ErrContent reports a directory that cannot be packed.
	ErrContent = errors.New("archive: unfit content")
)

const (
	nameMeta     = "META"
	nameManifest = "MANIFEST"

	metaBytesMax     = 1 << 20
	manifestBytesMax = 64 << 20
	fileBytesMax     = 8<<30 - 1 // of USTAR
	blockBytes       = 512
)

// entry is one file of the manifest.
type entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// list returns a directory's files in name order, without their hashes.
func list(dir string) ([]entry, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	out := make([]entry, 0, len(found))
	for _, f := range found {
		info, err := f.Info()
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", dir, err)
		}
		if !info.Mode().IsRegular() || !plainName(f.Name()) || info.Size() > fileBytesMax {
			return nil, fmt.Errorf("%w: %s in %s", ErrContent, f.Name(), dir)
		}
		out = append(out, entry{Name: f.Name(), Size: info.Size(), SHA256: strings.Repeat("0", 2*sha256.Size)})
	}
	return out, nil
}

// plainName reports whether a file may have this name: no path, none of ours.
func plainName(name string) bool {
	return name != "" && len(name) <= 99 && name == filepath.Base(name) && name != "." && name != ".." &&
		name != nameMeta && name != nameManifest
}

// Size returns the length of the stream that [Pack] would write.
func Size(meta []byte, dir string) (int64, error) {
	files, err := list(dir)
	if err != nil {
		return 0, err
	}
	manifest, err := json.Marshal(files)
	if err != nil {
		return 0, fmt.Errorf("pack %s: %w", dir, err)
	}
	total := int64(2 * blockBytes) // the end of a tar stream
	for _, size := range append([]int64{int64(len(meta)), int64(len(manifest))}, sizes(files)...) {
		total += blockBytes + (size+blockBytes-1)/blockBytes*blockBytes
	}
	return total, nil
}

func sizes(files []entry) []int64 {
	out := make([]int64, len(files))
	for i, f := range files {
		out[i] = f.Size
	}
	return out
}

// Pack writes dir and meta as one stream. The error wraps [ErrContent], or is
// the writer's.
func Pack(w io.Writer, meta []byte, dir string) error {
	files, err := list(dir)
	if err != nil {
		return err
	}
	if len(meta) > metaBytesMax {
		return fmt.Errorf("%w: %d bytes of meta", ErrContent, len(meta))
	}
	t := tar.NewWriter(w)
	if err := put(t, nameMeta, meta); err != nil {
		return err
	}
	for i := range files {
		if err := packFile(t, dir, &files[i]); err != nil {
			return err
		}
	}
	manifest, err := json.Marshal(files)
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return errors.Join(put(t, nameManifest, manifest), t.Close())
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, Format: tar.FormatUSTAR}
}

func put(t *tar.Writer, name string, b []byte) error {
	if err := t.WriteHeader(header(name, int64(len(b)))); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	_, err := t.Write(b)
	return err
}

func packFile(t *tar.Writer, dir string, e *entry) error {
	f, err := os.Open(filepath.Join(dir, e.Name))
	if err != nil {
		return fmt.Errorf("pack %s: %w", e.Name, err)
	}
	defer func() { _ = f.Close() }()
	if err := t.WriteHeader(header(e.Name, e.Size)); err != nil {
		return fmt.Errorf("pack %s: %w", e.Name, err)
	}
	h := sha256.New()
	if n, err := io.Copy(io.MultiWriter(t, h), io.LimitReader(f, e.Size)); err != nil || n != e.Size {
		return errors.Join(fmt.Errorf("%w: %s changed while it was packed", ErrContent, e.Name), err)
	}
	e.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// Unpack reads a stream into dir, which must not exist, and returns its meta.
// Until every byte is verified and on disk, dir does not exist: what comes is
// held in dir.partial, which is replaced when it is left from before. The error
// wraps [ErrDamaged] or [ErrExists].
func Unpack(r io.Reader, dir string) (meta []byte, err error) {
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrExists, dir), err)
	}
	partial := dir + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o700)); err != nil {
		return nil, fmt.Errorf("unpack to %s: %w", dir, err)
	}
	meta, err = read(r, func(name string, r io.Reader, sum hash.Hash) error {
		return writeFile(filepath.Join(partial, name), r, sum)
	})
	if err == nil {
		err = errors.Join(SyncDir(partial), os.Rename(partial, dir), SyncDir(filepath.Dir(dir)))
	}
	if err != nil {
		return nil, fmt.Errorf("unpack to %s: %w", dir, errors.Join(err, os.RemoveAll(partial)))
	}
	return meta, nil
}

// Check reads a stream to its end and returns its meta, without writing
// anything. The error wraps [ErrDamaged].
func Check(r io.Reader) (meta []byte, err error) {
	return read(r, func(_ string, r io.Reader, sum hash.Hash) error {
		_, err := io.Copy(sum, r)
		return err
	})
}

// read hands each file of a stream to take, which must read all of it into the
// hash, and compares with the manifest.
func read(r io.Reader, take func(name string, r io.Reader, sum hash.Hash) error) (meta []byte, err error) {
	t := tar.NewReader(r)
	if meta, err = small(t, nameMeta, metaBytesMax); err != nil {
		return nil, err
	}
	var got []entry
	for {
		h, err := t.Next()
		if err != nil {
			return nil, fmt.Errorf("%w: it ends without a manifest: %w", ErrDamaged, err)
		}
		if h.Name == nameManifest {
			return meta, checkManifest(t, got)
		}
		if h.Typeflag != tar.TypeReg || !plainName(h.Name) || len(got) > 0 && got[len(got)-1].Name >= h.Name {
			return nil, fmt.Errorf("%w: entry %q", ErrDamaged, h.Name)
		}
		sum := sha256.New()
		if err := take(h.Name, t, sum); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, h.Name, err)
		}
		got = append(got, entry{h.Name, h.Size, hex.EncodeToString(sum.Sum(nil))})
	}
}

// small reads an entry that is held in memory.
func small(t *tar.Reader, name string, bytesMax int64) ([]byte, error) {
	h, err := t.Next()
	if err != nil || h.Name != name || h.Size > bytesMax {
		return nil, errors.Join(fmt.Errorf("%w: it does not start with %s", ErrDamaged, name), err)
	}
	b, err := io.ReadAll(t)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
	}
	return b, nil
}

func checkManifest(r io.Reader, got []entry) error {
	b, err := io.ReadAll(io.LimitReader(r, manifestBytesMax))
	if err != nil {
		return fmt.Errorf("%w: manifest: %w", ErrDamaged, err)
	}
	var want []entry
	if err := json.Unmarshal(b, &want); err != nil {
		return fmt.Errorf("%w: manifest: %w", ErrDamaged, err)
	}
	if len(want) != len(got) {
		return fmt.Errorf("%w: %d files, the manifest lists %d", ErrDamaged, len(got), len(want))
	}
	for i := range want {
		if want[i] != got[i] {
			return fmt.Errorf("%w: %s is not what was packed", ErrDamaged, got[i].Name)
		}
	}
	return nil
}

func writeFile(path string, r io.Reader, sum hash.Hash) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(f, sum), r)
	return errors.Join(err, f.Sync(), f.Close())
}

// SyncDir makes a directory's names durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
