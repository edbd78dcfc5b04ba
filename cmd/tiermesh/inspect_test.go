package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
)

// TestPrintExpiry: what is to be done is said 30 days before the certificate ends,
// and after that.
func TestPrintExpiry(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		left  time.Duration
		days  string
		warns bool
	}{
		{2 * 365 * day, "730 days left", false}, {30*day + time.Hour, "30 days left", false}, {30*day - time.Hour, "29 days left", true},
		{time.Hour, "0 days left", true}, {-2 * day, "ended 2 days ago", true},
	} {
		ends := now.Add(row.left)
		var b bytes.Buffer
		s := api.Status{Site: "500101", Node: 3}
		s.CertificateEnds = &ends
		printExpiry(&b, s, now)
		if text := b.String(); !strings.Contains(text, row.days) || strings.Contains(text, "tiermesh ca issue --site 500101 --node 3") != row.warns {
			t.Errorf("%s left: %s", row.left, text)
		}
	}
	var b bytes.Buffer
	if printExpiry(&b, api.Status{}, now); b.Len() > 0 {
		t.Errorf("a node of an earlier build: %s", b.String())
	}
}
