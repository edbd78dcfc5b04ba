package bench_test

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

// TestDocuments: the documents of the link benchmarks are of the size and the
// fields that they are said to be, differ, come out of the seed, and do not
// compress to nothing.
func TestDocuments(t *testing.T) {
	const n = 1000
	var all bytes.Buffer
	seen := map[string]bool{}
	for i := range n {
		b, err := json.Marshal(bench.Document(7, i))
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(bench.Document(7, i))
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("document %d is not the seed's: %v", i, err)
		}
		var fields map[string]any
		if err := json.Unmarshal(b, &fields); err != nil || len(fields) != 12 {
			t.Fatalf("%d fields, %v: %s", len(fields), err, b)
		}
		if seen[fields["text"].(string)] {
			t.Errorf("document %d repeats a text", i)
		}
		seen[fields["text"].(string)] = true
		all.Write(b)
	}
	if mean := all.Len() / n; mean < 560 || mean > 640 {
		t.Errorf("%d bytes a document", mean)
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(all.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ratio := float64(packed.Len()) / float64(all.Len())
	t.Logf("%d bytes a document, deflate packs them to %.0f %%", all.Len()/n, 100*ratio)
	if ratio < 0.25 {
		t.Errorf("deflate packs the documents to %.0f %%: they are too much alike", 100*ratio)
	}
}
