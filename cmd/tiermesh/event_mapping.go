package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/input"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

// mapping says which columns of a file are which fields of a report. As JSON it is a
// profile.
type mapping struct {
	fileFlags
	// Map has the columns of each field; several are put together.
	Map map[string][]string `json:"map,omitempty"`
	// Set has the values of fields that a row has none for.
	Set map[string]string `json:"set,omitempty"`
	// Values has, by field, what stands for each value of the file; * for all others.
	Values map[string]map[string]string `json:"values,omitempty"`
	// DefaultPriority is that of rows without one; 0 for none.
	DefaultPriority int `json:"default_priority"`
	// DropExtra leaves out what no field is for, instead of keeping it in extra.
	DropExtra bool `json:"drop_extra,omitempty"`

	times    *instant.Parser
	used     map[string]bool           // columns that are some field's
	unmapped map[string]map[string]int // by field, values that Values does not have
	unknown  map[string]bool           // names of fields that are no report's
	formats  map[string]int            // time formats that would fit, by rows
	badTimes int
}

// mappingFlags are the flags of a mapping, as they are written.
type mappingFlags struct {
	maps, sets, values []string
	profile, save      string
}

func (f *mappingFlags) add(cmd *cobra.Command, m *mapping) {
	m.add(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.maps, "map", nil, "FIELD=COLUMN[+COLUMN…][,FIELD=COLUMN…]: which column is which field; may be repeated")
	flags.StringArrayVar(&f.sets, "set", nil, "FIELD=VALUE where a row has none; may be repeated")
	flags.StringArrayVar(&f.values, "map-values", nil, "FIELD=FILE: a CSV of value,code, which says what stands for each value of the file; value * is for all others")
	flags.IntVar(&m.DefaultPriority, "default-priority", 3, "priority of rows without one; 0 for none")
	flags.BoolVar(&m.DropExtra, "drop-extra", false, "leave out columns that are no field's, instead of keeping them in extra")
	flags.StringVar(&f.profile, "profile", "", "a saved mapping: its file, or one of "+strings.Join(profileNames(), ", "))
	flags.StringVar(&f.save, "save-profile", "", "write the mapping to this file, for --profile")
}

// read makes the mapping of the flags: what they say goes before what the profile does.
func (f *mappingFlags) read(cmd *cobra.Command, m *mapping) error {
	if f.profile != "" {
		flags := *m
		if err := loadProfile(f.profile, m); err != nil {
			return err
		}
		for name, put := range map[string]func(){
			"format": func() { m.Format = flags.Format }, "encoding": func() { m.Encoding = flags.Encoding },
			"delimiter": func() { m.Delimiter = flags.Delimiter }, "time-format": func() { m.TimeFormat = flags.TimeFormat },
			"drop-extra":       func() { m.DropExtra = flags.DropExtra },
			"default-priority": func() { m.DefaultPriority = flags.DefaultPriority },
		} {
			if cmd.Flags().Changed(name) {
				put()
			}
		}
	}
	if m.Set == nil {
		m.Set = map[string]string{}
	}
	if m.Map == nil {
		m.Map = map[string][]string{}
	}
	if m.Values == nil {
		m.Values = map[string]map[string]string{}
	}
	for _, text := range f.maps {
		for _, one := range splitMap(text) {
			field, column, ok := strings.Cut(one, "=")
			if !ok || column == "" {
				return usagef("--map %q: want FIELD=COLUMN", one)
			}
			m.Map[strings.TrimSpace(field)] = []string{strings.TrimSpace(column)}
		}
	}
	sets, err := assignments(f.sets)
	if err != nil {
		return err
	}
	maps.Copy(m.Set, sets)
	for _, text := range f.values {
		field, file, ok := strings.Cut(text, "=")
		if !ok {
			return usagef("--map-values %q: want FIELD=FILE", text)
		}
		if m.Values[field], err = readValues(file); err != nil {
			return err
		}
	}
	return m.check(cmd)
}

// splitMap splits at the commas that another field stands behind: a column's name may
// have some.
func splitMap(text string) (out []string) {
	for part := range strings.SplitSeq(text, ",") {
		name, _, ok := strings.Cut(part, "=")
		if len(out) > 0 && (!ok || !slices.Contains(event.Fields(), strings.TrimSpace(name))) {
			out[len(out)-1] += "," + part
			continue
		}
		out = append(out, part)
	}
	return out
}

// check checks the names of fields and reads the flags of times.
func (m *mapping) check(cmd *cobra.Command) (err error) {
	for _, names := range []struct {
		flag string
		of   []string
	}{
		{"--map", slices.Sorted(maps.Keys(m.Map))}, {"--set", slices.Sorted(maps.Keys(m.Set))}, {"--map-values", slices.Sorted(maps.Keys(m.Values))},
	} {
		for _, field := range names.of {
			if !slices.Contains(event.Fields(), field) || field == extraField {
				return usagef("%s: %q is no field of a report: want one of %s", names.flag, field, strings.Join(reportFields(), ", "))
			}
		}
	}
	if m.DefaultPriority < 0 || m.DefaultPriority > 4 {
		return usagef("--default-priority %d: want 1 (highest) to 4, or 0 for none", m.DefaultPriority)
	}
	m.unmapped, m.unknown, m.formats = map[string]map[string]int{}, map[string]bool{}, map[string]int{}
	m.times, err = m.fileFlags.times(cmd)
	return err
}

const extraField = "extra"

// reportFields are the fields that a column may be.
func reportFields() []string {
	return slices.DeleteFunc(event.Fields(), func(f string) bool { return f == extraField })
}

// mapped reports whether the file's columns are not the report's own.
func (m *mapping) mapped() bool { return len(m.Map) > 0 || m.DropExtra }

// begin holds the mapping to a file's columns; JSON has none to hold it to. The error
// wraps [errInput].
func (m *mapping) begin(header []string) error {
	m.used = map[string]bool{}
	for field, columns := range m.Map {
		for _, text := range columns {
			parts := []string{text}
			if len(header) > 0 && !slices.Contains(header, text) || len(header) == 0 {
				parts = strings.Split(text, "+")
			}
			for i, c := range parts {
				parts[i] = strings.TrimSpace(c)
				if m.used[parts[i]] = true; len(header) > 0 && !slices.Contains(header, parts[i]) {
					return fmt.Errorf("%w: --map %s=%s: the file has no column %q; it has %s", errInput, field, text, parts[i], quotedNames(header))
				}
			}
			m.Map[field] = parts
		}
	}
	if m.mapped() {
		return nil
	}
	var foreign []string
	for _, name := range header {
		if !slices.Contains(event.Fields(), name) {
			foreign = append(foreign, name)
		}
	}
	if len(foreign) > 0 {
		return fmt.Errorf("%w: %s: no fields of a report, which are %s. Say which column is which field, such as %s",
			errInput, quotedNames(foreign), strings.Join(reportFields(), ", "), suggestMap(header))
	}
	return nil
}

func quotedNames(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strconv.Quote(n)
	}
	return strings.Join(out, ", ")
}

// textOf is what a row says for a field, and where it stands alone, its JSON.
func (m *mapping) textOf(row input.Row, field string, used map[string]bool) (string, json.RawMessage) {
	var texts []string
	var value json.RawMessage
	there := false
	for _, name := range m.Map[field] {
		if f, ok := row.Field(name); ok {
			there, used[name] = true, true
			if strings.TrimSpace(f.Text) != "" {
				texts, value = append(texts, f.Text), f.JSON
			}
		}
	}
	if !there && !m.used[field] {
		if f, ok := row.Field(field); ok {
			used[field] = true
			texts, value = []string{f.Text}, f.JSON
		}
	}
	if len(texts) != 1 {
		return strings.Join(texts, " "), nil
	}
	return texts[0], value
}

// fieldError is what is wrong with a row's field.
type fieldError struct {
	field string
	err   error
}

// report makes the JSON of a row. The error, if any, is of a field that is left as it
// was.
func (m *mapping) report(row input.Row) ([]byte, *fieldError) {
	out, used := map[string]any{}, map[string]bool{}
	var bad *fieldError
	for _, field := range reportFields() {
		text, value := m.textOf(row, field, used)
		if strings.TrimSpace(text) == "" {
			if text, value = m.Set[field], nil; text == "" {
				continue
			}
		}
		text, value = m.valueOf(field, text, value)
		if out[field] = m.convert(field, text, value); field == "reported_at" {
			if ms, err := m.times.Milliseconds(text); err != nil {
				bad = m.badTime(out, text, err)
			} else {
				delete(out, field)
				out["reported_at_ms"] = ms
			}
		}
	}
	if _, ok := out["priority"]; !ok && m.DefaultPriority > 0 {
		out["priority"] = m.DefaultPriority
	}
	m.extra(out, row, used)
	raw, err := encodeJSON(out)
	if err != nil {
		return nil, &fieldError{"report", err}
	}
	return raw, bad
}

// encodeJSON is json.Marshal, which leaves < and > as they are.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// valueOf is what stands for a value of the file.
func (m *mapping) valueOf(field, text string, value json.RawMessage) (string, json.RawMessage) {
	values := m.Values[field]
	if values == nil {
		return text, value
	}
	key := strings.TrimSpace(text)
	if to, ok := values[key]; ok {
		return to, nil
	}
	if m.unmapped[field] == nil {
		m.unmapped[field] = map[string]int{}
	}
	m.unmapped[field][key]++
	if to, ok := values["*"]; ok {
		return to, nil
	}
	return text, value
}

// convert makes the JSON value of a field. What is no number where one belongs is left
// as it is, so that the row is kept in quarantine.
func (m *mapping) convert(field, text string, value json.RawMessage) any {
	number := strings.TrimSpace(text)
	switch field {
	case "lat", "lon":
		if v, err := strconv.ParseFloat(number, 64); err == nil && v-v == 0 { // JSON has no infinity
			return v
		}
	case "priority", "reported_at_ms":
		if v, err := strconv.ParseInt(number, 10, 64); err == nil {
			return v
		}
	case "type", "id", "source_key":
		text = number
	}
	if len(value) > 0 && (value[0] == '{' || value[0] == '[') {
		return value
	}
	return text
}

// badTime notes a time that cannot be read. One that would be read in another zone is
// marked, so that nobody takes it for that.
func (m *mapping) badTime(out map[string]any, text string, err error) *fieldError {
	m.badTimes++
	var e *instant.Error
	if errors.As(err, &e) {
		for _, f := range e.Formats {
			m.formats[f]++
		}
	}
	if _, other := instant.Parse(text); other == nil {
		out["reported_at"] = fmt.Sprintf("%s (%s)", text, cmp.Or(m.TimeZone, m.TimeFormat))
	}
	return &fieldError{"reported_at", fmt.Errorf("reported_at: %w", err)}
}

// extra keeps what no field is for. Without a mapping a JSON field that is no report's
// stays where it is, and is refused there by name.
func (m *mapping) extra(out map[string]any, row input.Row, used map[string]bool) {
	rest := map[string]any{}
	for _, f := range row.Fields {
		switch {
		case used[f.Name] || f.JSON == nil && strings.TrimSpace(f.Text) == "" || string(f.JSON) == "null":
		case f.Name == extraField && len(f.JSON) > 0:
			out[extraField] = f.JSON
		case f.JSON == nil:
			rest[f.Name] = f.Text
		case m.mapped():
			rest[f.Name] = f.JSON
		case slices.Contains(event.Fields(), f.Name): // of white space alone
		default:
			m.unknown[f.Name] = true
			out[f.Name] = f.JSON
		}
	}
	if _, ok := out[extraField]; !ok && len(rest) > 0 && !m.DropExtra {
		out[extraField] = rest
	}
}

// readValues reads a file of value,code. The error wraps [errInput].
func readValues(file string) (map[string]string, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	defer func() { _ = in.Close() }()
	r, err := input.Open(in, input.Options{Format: input.CSV})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errInput, file, err)
	}
	if !slices.Contains(r.Header(), "value") || !slices.Contains(r.Header(), "code") {
		return nil, fmt.Errorf("%w: %s: its columns are %s: want value, as the file to import has it, and code, what stands for it", errInput, file, quotedNames(r.Header()))
	}
	out := map[string]string{}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err == nil {
			err = row.Err
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s, line %d: %w", errInput, file, row.Line, err)
		}
		value, _ := row.Field("value")
		code, _ := row.Field("code")
		if _, twice := out[strings.TrimSpace(value.Text)]; twice {
			return nil, fmt.Errorf("%w: %s, line %d: value %.40q stands there twice", errInput, file, row.Line, value.Text)
		}
		out[strings.TrimSpace(value.Text)] = strings.TrimSpace(code.Text)
	}
}
