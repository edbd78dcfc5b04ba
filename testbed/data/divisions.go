package data

import (
	"bytes"
	"embed"
	"encoding/csv"
	"fmt"
	"io"

	"github.com/tiermesh/tiermesh/tiers"
)

//go:embed *.csv
var files embed.FS

// District is one district or county.
type District struct {
	Code tiers.SiteID
	Name string
}

// Township is one township or subdistrict.
type Township struct {
	Code     tiers.SiteID
	Name     string
	District tiers.SiteID
}

// EventType is one public-order matter.
type EventType struct{ Code, Category, Name string }

// rows reads an embedded file without its header.
func rows(name string) ([][]string, error) {
	b, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("embedded data: %w", err)
	}
	all, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("embedded data %s: %w", name, err)
	}
	return all[1:], nil
}

// Districts lists the 38 districts in code order.
func Districts() ([]District, error) {
	all, err := rows("districts.csv")
	out := make([]District, len(all))
	for i, r := range all {
		out[i] = District{tiers.SiteID(r[0]), r[1]}
	}
	return out, err
}

// Townships lists the 1,031 townships in the file's order.
func Townships() ([]Township, error) {
	all, err := rows("townships.csv")
	out := make([]Township, len(all))
	for i, r := range all {
		out[i] = Township{tiers.SiteID(r[0]), r[1], tiers.SiteID(r[2])}
	}
	return out, err
}

// EventTypes lists the public-order matters and, after them, the types of the
// service requests, carried over under codes of their own.
func EventTypes() ([]EventType, error) {
	all, err := rows("event_types.csv")
	if err != nil {
		return nil, err
	}
	var out []EventType
	for _, r := range all {
		out = append(out, EventType{r[0], r[1], r[2]})
	}
	requests, err := rows("nyc311.csv")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, r := range requests {
		name := r[colType]
		if code := TypeCode(name); !seen[code] {
			seen[code] = true
			out = append(out, EventType{code, TypeCategory(name), name})
		}
	}
	return out, nil
}

// NYC311 returns the built-in service requests.
func NYC311() io.Reader {
	b, err := files.ReadFile("nyc311.csv")
	if err != nil {
		panic(fmt.Sprintf("data: embedded file: %v", err)) // the build embeds it
	}
	return bytes.NewReader(b)
}
