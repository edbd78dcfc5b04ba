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
	table.StartS, table.ConvergeS, table.ReorgConvergeS = 0, 0, 0 // of a busy machine
	table.IdleMB, table.IdleCPUMS = 0, 0                          // of few sites, and perhaps a race detector
	if missed := table.Missed(); len(missed) > 0 {
		t.Errorf("%v: %+v", missed, table)
	}
}

// TestMissed: each figure that is over its limit is named.
func TestMissed(t *testing.T) {
	if m := (city.Table{}).Missed(); len(m) > 0 {
		t.Errorf("nothing is missed: %v", m)
	}
	for key, value := range map[string]string{
		"rss_mb": "16385", "start_s": "180.1", "converge_s": "120.1", "reorg_converge_s": "121", "idle_mb_per_site": "10.1",
		"idle_cpu_ms_per_site_s": "0.11", "lost": "1", "diverged": "1", "violations": "1", "reported": "1", "moves": "1",
	} {
		var table city.Table
		if err := json.Unmarshal([]byte(`{"`+key+`":`+value+`}`), &table); err != nil {
			t.Fatal(err)
		}
		if m := table.Missed(); len(m) != 1 {
			t.Errorf("%s %s: %s", key, value, strings.Join(m, "; "))
		}
	}
}
