package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
)

// The files that Write makes.
const (
	JSONFile = "report.json"
	HTMLFile = "report.html"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// written is report.json: the data, with what they come to.
type written struct {
	Holds bool `json:"holds"`
	*Data
}

// Write writes report.json and report.html into a directory, which it makes. Faults
// and samples must be in the order that [Data] says.
func Write(dir string, d *Data) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("report directory: %w", err)
	}
	b, err := json.MarshalIndent(written{d.Holds(), d}, "", " ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	page, err := d.page()
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	for name, content := range map[string][]byte{JSONFile: append(b, '\n'), HTMLFile: page} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	return nil
}

// page returns report.html.
func (d *Data) page() ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"count": count[uint64], "whole": count[int], "size": func(n uint64) string { return size(float64(n)) }, "duration": duration, "trim": trim,
	}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, d.view()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
