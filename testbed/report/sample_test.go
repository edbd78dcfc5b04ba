package report_test

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/report"
)

// names are sites' names, to be read on the page.
var names = []string{"万州区", "涪陵区", "渝中区", "大渡口区", "江北区"}

// city is a made-up run of a federation with many sites, in which faults are on from
// 60 s to 240 s.
func city(townships, faults int) *report.Data {
	d := &report.Data{
		File: "testbed/scenarios/partition.txt", About: "Ten districts are cut off while reports go on; after the heal everybody agrees.",
		Mode: "local", Seed: 42, Began: time.Date(2026, 11, 25, 8, 30, 0, 0, time.UTC), WorldS: 420, TookS: 431.7,
		Script: "# Ten districts are cut off while reports go on.\nsite 500000 city 重庆市\nsites from csv\npublish\nreport 200/s from nyc311 at townships\nafter 60s\n" +
			"isolate 500101\nafter 180s\nheal\nhush\nuntil converged within 120s\nexpect lost 0\nexpect urgent p99 < 1s\nexpect converge < 60s\n",
		Count: report.Counts{
			Sites: townships + 6, Reported: 48211, Acknowledged: 48209, WireBytes: 391_204_411, NeededBytes: 288_113_007, ConvergeS: 71.4, CPUS: 512.3, RSSMB: 11213,
		},
		Expected: []report.Expectation{{12, "expect lost 0", "0", true, false}, {13, "expect urgent p99 < 1s", "0.41 s", true, false}, {14, "expect converge < 60s", "71.4 s", false, false}},
		Verdicts: []oracle.Verdict{
			{Oracle: "nothing lost", Checked: 144627}, {Oracle: "same views", Checked: 212904}, {Oracle: "digests", Checked: 3120}, {Oracle: "audience", Checked: 9321},
			{Oracle: "claims", Checked: 812}, {Oracle: "custody", Checked: 48209}, {Oracle: "linearizable", Checked: 2210},
			{Oracle: "urgent", Checked: 1880, Violations: 3, Examples: []string{
				"event:01932f1c-7d2e waited at 500101001 while 214 other records came to 500101, for 2.113s: at most 64 may",
				"event:01932f1c-9aa1 waited at 500101004 while 97 other records came to 500101, for 904ms: at most 64 may",
			}},
			{Oracle: "bounded", Checked: 5044}, {Oracle: "live", Checked: uint64(townships + 5)},
		},
	}
	for i := range faults {
		from := 60 + 120*float64(i)/float64(faults)
		f := report.Fault{FromS: from, ToS: from + 30 + float64(i*37%150)/2, What: fmt.Sprintf("isolate %d %s", 500101+i, names[i%5]), Line: 7}
		if i%5 == 4 {
			f.ToS, f.What = -1, fmt.Sprintf("kill %d", 500101+i)
		}
		f.ToS = min(f.ToS, 240)
		d.Faults = append(d.Faults, f)
	}
	d.Sites = append(d.Sites, report.Site{ID: "500000", Name: "重庆市", Tier: "city", ConvergedS: -1})
	for i, name := range names {
		d.Sites = append(d.Sites, report.Site{ID: fmt.Sprint(500101 + i), Name: name, Tier: "district", Parent: "500000", ConvergedS: 3 + float64(i)*7.3, CutS: 30})
	}
	for i := range townships {
		s := report.Site{
			ID: fmt.Sprintf("%d%03d", 500101+i%5, i/5+1), Name: names[i%5][:6] + "街道", Tier: "township", Parent: fmt.Sprint(500101 + i%5), Acked: uint64(40 + i%17),
			ConvergedS: 1 + 60*math.Pow(float64(i)/float64(townships), 3), CutS: float64(i % 180),
		}
		if i == 7 {
			s.ConvergedS = -1
		}
		d.Sites = append(d.Sites, s)
	}
	d.Samples = samples(d, townships+5)
	return d
}

func samples(d *report.Data, links int) (out []report.Sample) {
	var backlog float64
	for i := range 840 {
		at := float64(i) / 2
		s := report.Sample{AtS: at, Links: links, Connected: links, Equal: links - i%7, Owed: map[string]uint64{}, RSSMB: 9000 + at*5}
		s.Reported = uint64(min(at, 240) * 200)
		s.Acknowledged = s.Reported
		switch {
		case at >= 60 && at < 240:
			backlog += 90
			s.Connected = links * 3 / 4
			s.Equal = links*3/4 - i%11
		case at >= 240:
			backlog = max(0, backlog-float64(280))
			s.Equal = links - int(float64(links)*math.Exp(-(at-240)/25)/4)
		}
		s.Equal = max(s.Equal, 0)
		s.Owed["routine"] = uint64(backlog + 30*math.Abs(math.Sin(at)))
		s.Owed["urgent"] = uint64(min(backlog/50, 120) * max(0, 1-max(0, at-240)/3))
		s.Owed["command"] = uint64(backlog / 9)
		s.Owed["catalog"] = uint64(max(0, 40-at))
		s.Owed["control"], s.Owed["reading"], s.Owed["bulk"] = 0, uint64(backlog*2), 0
		s.WireBytes = uint64(float64(d.Count.WireBytes) * math.Pow(at/420, 0.8))
		out = append(out, s)
	}
	return out
}

// small is a run of three sites that holds.
func small() *report.Data {
	d := city(0, 2)
	d.File, d.Failure = "two.txt", ""
	d.Expected = d.Expected[:2]
	d.Verdicts = d.Verdicts[:7]
	d.Sites = d.Sites[:3]
	d.Script = strings.Repeat("report 5 at 500101\n", 3)
	return d
}
