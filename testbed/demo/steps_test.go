package demo_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/demo"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
)

// TestCutStepsCanFail plants, while the links are cut, the defects that the steps
// of that time are there to find.
func TestCutStepsCanFail(t *testing.T) {
	cfg, q := config(t.TempDir())
	ctx := limited(t)
	again, cluster, err := demo.CutOff(ctx, cfg)
	defer closed(t, cluster)
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(q.lines, "\n"))
	}
	if s := again.Bundled(); s.BundleKnown != s.BundleUrgent || s.BundleUrgent == 0 || s.BundleResent != 0 || s.StoodIn != 1 {
		t.Fatalf("without a defect: %+v", s)
	}
	undo := again.InventUrgent()
	if s := again.Bundled(); s.BundleKnown != s.BundleUrgent-1 {
		t.Errorf("an urgent event that the bundle did not bring: %+v", s)
	}
	undo()
	undo = again.HideReceived(2)
	if s := again.Bundled(); s.BundleResent != 2 {
		t.Errorf("two records came by bundle and by link: %+v", s)
	}
	undo()
	_, standIn, moved, _, _ := again.Parts()
	if away, waiting, err := again.Undelivered(ctx); err != nil || away != 3 || waiting != 3 {
		t.Errorf("of %d townships out of reach %d are shown without the order, %v", away, waiting, err)
	}
	if away, waiting, err := again.Undelivered(ctx, standIn); err != nil || away != 4 || waiting != 3 {
		t.Errorf("with one that has it: of %d townships out of reach %d are shown without the order, %v", away, waiting, err)
	}
	if again.StandsIn(moved) {
		t.Error("the city stands in for the parent of a township that it cannot reach")
	}
	cluster.Cut(standIn, cluster.Topology().City())
	if err := again.Extra(ctx, standIn); err != nil {
		t.Fatal(err)
	}
	if again.StandsIn(standIn) {
		t.Error("the city stands in, and lacks an event")
	}
}

// TestStepsCanFail plants, after the heal, each defect that the checks of the
// steps are there to find.
func TestStepsCanFail(t *testing.T) {
	cfg, q := config(t.TempDir())
	ctx := limited(t)
	again, cluster, err := demo.Played(ctx, cfg)
	defer closed(t, cluster)
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(q.lines, "\n"))
	}
	verify := func() demo.Table {
		t.Helper()
		table, err := again.Verify(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	if table := verify(); !table.Holds() {
		t.Fatalf("without a defect: %+v\n%s", table, strings.Join(q.lines, "\n"))
	}
	isolated, _, _, _, district := again.Parts()
	undo := again.InventLost()
	if table := verify(); table.RolledBack != 0 || table.Restored != 1 || table.Holds() {
		t.Errorf("an event that the old copy lacks is gone: %+v", table)
	}
	undo()

	certificate := again.Certificate(isolated)
	good, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"altered": bytes.Replace(good, []byte(`"seq":`), []byte(`"seq":1`), 1), "torn": good[:len(good)/2],
		"another link's": read(t, again.Certificate(district)),
	} {
		write(t, certificate, bad)
		if table := verify(); table.Proven != table.Links-1 || table.Holds() {
			t.Errorf("a certificate that is %s: %+v", name, table)
		}
	}
	write(t, certificate, good)
	if table := verify(); !table.Holds() {
		t.Errorf("with every defect undone: %+v", table)
	}
	t.Run("duties", func(t *testing.T) { falseDuties(t, cluster, again, verify) })
	t.Run("a bundle of something else", func(t *testing.T) { otherBundle(ctx, t, cluster, again) })
	t.Run("not back, not moved", func(t *testing.T) { cutAgain(ctx, t, cluster, again) })
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// otherBundle puts a bundle with news in the place of the one that was carried.
func otherBundle(ctx context.Context, t *testing.T, cluster *local.Cluster, again *demo.Rerun) {
	t.Helper()
	isolated, _, _, _, district := again.Parts()
	cluster.Isolate(isolated)
	if err := again.Extra(ctx, isolated); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := cluster.Node(isolated).Backend().ExportBundle(ctx, api.ExportQuery{For: district, Full: true}, &b); err != nil {
		t.Fatal(err)
	}
	write(t, again.Bundle(), b.Bytes())
	if table, err := again.Verify(ctx); err != nil || table.BundleAgain == 0 || table.Holds() {
		t.Errorf("taking the bundle in again brings something: %+v, %v", table.Steps, err)
	}
}

// cutAgain cuts links that the heal had brought back.
func cutAgain(ctx context.Context, t *testing.T, cluster *local.Cluster, again *demo.Rerun) {
	t.Helper()
	_, standIn, moved, from, _ := again.Parts()
	cluster.Cut(standIn, from)
	cluster.Isolate(moved)
	for _, id := range []tiers.SiteID{standIn, moved} {
		if err := again.Extra(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.AwaitStandIn(ctx); err != nil {
		t.Fatal(err)
	}
	table, err := again.Verify(ctx)
	if err != nil || table.WentBack != 0 || table.StandIns != 1 || table.Holds() {
		t.Errorf("a stand-in that does not end: %+v, %v", table.Steps, err)
	}
	if table.Moved != 0 || table.Moves != 1 {
		t.Errorf("a moved township whose new parent lacks an event: %+v", table.Steps)
	}
}

// TestDiskExchange interrupts an exchange of disks at each point: a start finds
// the old disk or the new one, never none.
func TestDiskExchange(t *testing.T) {
	for name, row := range map[string]struct {
		do   func(dir string) error
		want string
	}{
		"not begun": {func(string) error { return nil }, "disk"},
		"half-way":  {func(dir string) error { return demo.Exchange(dir, "1", true) }, "disk"},
		"done":      {func(dir string) error { return demo.Exchange(dir, "1", false) }, "copy"},
	} {
		dir := t.TempDir()
		for sub, text := range map[string]string{"data": "disk", "data-copied": "copy"} {
			if err := os.MkdirAll(filepath.Join(dir, "1", sub), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "1", sub, "what"), []byte(text))
		}
		if err := errors.Join(row.do(dir), demo.UndoExchange(dir, "1")); err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(dir, "1", "data", "what")); string(got) != row.want {
			t.Errorf("%s: the disk is %q, want %q", name, got, row.want)
		}
	}
	if err := demo.UndoExchange(t.TempDir(), "1"); err != nil {
		t.Errorf("a first start: %v", err)
	}
}
