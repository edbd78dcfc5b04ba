package bench_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

func TestZZ(t *testing.T) {
	gc, _ := strconv.Atoi(os.Getenv("ZZGC")); debug.SetGCPercent(100); ballast := make([]byte, gc<<20+1); defer runtime.KeepAlive(&ballast[0])
	n := 150000
	if s := os.Getenv("ZZN"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	via := "process"
	if s := os.Getenv("ZZVIA"); s != "" {
		via = s
	}
	nodes := 1
	if s := os.Getenv("ZZNODES"); s != "" {
		nodes, _ = strconv.Atoi(s)
	}
	err := bench.Writes(context.Background(), bench.WritesConfig{Dir: t.TempDir(), Clients: []int{64}, N: n, Nodes: nodes, Via: via}, func(c bench.Case) error {
		fmt.Printf("ops %.0f p50 %.2f p99 %.2f us/ev %.1f rss %.0f disk %.1f views %.3f\n", c.OpsS, c.P50MS, c.P99MS, c.CPUS*1e6/float64(n), c.RSSMB, c.DiskMB, c.ViewsS)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
