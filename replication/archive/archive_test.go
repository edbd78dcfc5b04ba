package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/replication/archive"
)

func fill(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := archive.Pack(&b, []byte("meta"), dir); err != nil {
		t.Fatal(err)
	}
	size, err := archive.Size([]byte("meta"), dir)
	if err != nil || size != int64(b.Len()) {
		t.Fatalf("size %d, packed %d, %v", size, b.Len(), err)
	}
	return b.Bytes()
}

// TestRoundTrip: what is unpacked is what was packed, and equal directories
// pack to equal bytes.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		files := rapid.MapOfN(rapid.StringMatching(`[a-z0-9.-]{1,20}x`), rapid.StringN(-1, -1, 2000), 0, 6).Draw(rt, "files")
		dir := fill(t, files)
		raw := pack(t, dir)
		out := filepath.Join(t.TempDir(), "out")
		meta, err := archive.Unpack(bytes.NewReader(raw), out)
		if err != nil || string(meta) != "meta" {
			rt.Fatalf("%q, %v", meta, err)
		}
		if !bytes.Equal(pack(t, out), raw) {
			rt.Fatal("the copy packs to other bytes")
		}
		for name, text := range files {
			if b, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(b) != text {
				rt.Fatalf("%s: %q, %v", name, b, err)
			}
		}
	})
}

// TestDamageIsFound: a stream that is cut anywhere, or has any bit of its
// content flipped, leaves nothing behind.
func TestDamageIsFound(t *testing.T) {
	dir := fill(t, map[string]string{"000001.sst": "records", "MANIFEST-1": fmt.Sprintf("%01000d", 7), "empty": ""})
	raw := pack(t, dir)
	out := filepath.Join(t.TempDir(), "out")
	check := func(what string, b []byte) {
		t.Helper()
		if _, err := archive.Unpack(bytes.NewReader(b), out); !errors.Is(err, archive.ErrDamaged) {
			t.Fatalf("%s: %v, want ErrDamaged", what, err)
		}
		if _, err := archive.Check(bytes.NewReader(b)); !errors.Is(err, archive.ErrDamaged) {
			t.Fatalf("%s passes the check: %v", what, err)
		}
		for _, path := range []string{out, out + ".partial"} {
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("%s left %s behind", what, path)
			}
		}
	}
	end := len(raw) - 2*512 // the end marks may be missing
	for n := 0; n < end; n += 512 {
		check(fmt.Sprintf("cut at %d", n), raw[:n])
	}
	for _, text := range []string{"records", "00007", `"sha256"`, "000001.sst"} {
		at := bytes.Index(raw, []byte(text))
		bad := bytes.Clone(raw)
		bad[at] ^= 1
		check("flipped bit in "+text, bad)
	}
	check("another stream", []byte("no archive at all, but some text that is long enough to be one block"))
	if meta, err := archive.Check(bytes.NewReader(raw)); err != nil || string(meta) != "meta" {
		t.Errorf("the whole stream: %q, %v", meta, err)
	}
	if _, err := archive.Unpack(bytes.NewReader(raw), dir); !errors.Is(err, archive.ErrExists) {
		t.Errorf("over something: %v", err)
	}
}

func TestContentRefusals(t *testing.T) {
	dir := fill(t, map[string]string{"META": "x"})
	if err := archive.Pack(&bytes.Buffer{}, nil, dir); !errors.Is(err, archive.ErrContent) {
		t.Errorf("a file of the archive's own name: %v", err)
	}
	sub := fill(t, nil)
	if err := os.Mkdir(filepath.Join(sub, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := archive.Pack(&bytes.Buffer{}, nil, sub); !errors.Is(err, archive.ErrContent) {
		t.Errorf("a directory: %v", err)
	}
	if err := archive.Pack(&bytes.Buffer{}, nil, filepath.Join(sub, "none")); err == nil {
		t.Error("no directory")
	}
}
