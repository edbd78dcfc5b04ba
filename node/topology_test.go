package node_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tiermesh/tiermesh/tiers"
)

// TestSameVersionOfTopology: a site whose file for the start differs from what the
// city published under the same version takes the published one.
func TestSameVersionOfTopology(t *testing.T) {
	m := newMesh(t)
	docs := m.report(1)
	m.wait("sites agree", m.agreed)
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	doc := m.Topology().Doc()
	doc.Sites = append([]tiers.Site(nil), doc.Sites...)
	doc.Sites[0].Name = "another name"
	other, err := tiers.NewTopology(doc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := other.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "topology.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	want, err := m.Node(city).Topology().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m.wait("the township has the city's topology", func() bool {
		got, err := m.Node(township).Topology().Marshal()
		return err == nil && bytes.Equal(got, want)
	})
	m.wait("sites agree", m.agreed)
	m.holds(docs)
}
