package city_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tiermesh/tiermesh/testbed/city"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type quiet struct{ t *testing.T }

func (q quiet) Step(text string)   { q.t.Log(text) }
func (q quiet) Line(text string)   { q.t.Log(text) }
func (quiet) Bar(int, int, string) {}
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestSmallCity plays a part of the city: everything that was acknowledged is at
// every site that should hold it, every township that moves has moved, and nothing
// differs.
func TestSmallCity(t *testing.T) {
	table, err := city.Run(within(t), city.Config{
		Dir: t.TempDir(), Districts: 4, TownshipsEach: 5, Cut: 2, Isolated: 2, Idle: time.Second,
		RedialMax: 200 * time.Millisecond, LinkIdle: 2 * time.Second, Progress: quiet{t},
	})
	if err != nil {
		t.Fatal(err)
	}
	if table.Sites != 26 || table.Reported != 80 || table.Moves < 4 {
		t.Errorf("too little was played: %+v", table)
	}
	for _, m := range []float64{table.Machine.Start.CPUMS, table.Machine.Idle.CPUMS, table.Machine.End.CPUMS} {
		if m <= 0 {
			t.Errorf("the machine was not measured: %+v", table.Machine)
		}
	}
	if missed := table.Missed(); len(missed) > 0 {
		t.Errorf("%v: %+v", missed, table)
	}
}

// TestMissed: what is missing or wrong is a verdict, each by its name; what depends on
// the machine never is.
func TestMissed(t *testing.T) {
	for key, row := range map[string]struct {
		value  string
		missed int
	}{
		"lost": {"1", 1}, "diverged": {"1", 1}, "violations": {"1", 1}, "reported": {"1", 1}, "moves": {"1", 1}, "acknowledged": {"1", 0},
		"rss_mb": {"1e9", 0}, "start_s": {"1e9", 0}, "converge_s": {"1e9", 0}, "reorg_converge_s": {"1e9", 0}, "idle_mb_per_site": {"1e9", 0},
		"idle_cpu_ms_per_site_s": {"1e9", 0}, "wire_bytes": {"1000000000", 0}, "took_s": {"1e9", 0},
	} {
		var table city.Table
		if err := json.Unmarshal([]byte(`{"`+key+`":`+row.value+`}`), &table); err != nil {
			t.Fatal(err)
		}
		if m := table.Missed(); len(m) != row.missed {
			t.Errorf("%s %s: %s", key, row.value, strings.Join(m, "; "))
		}
	}
}
