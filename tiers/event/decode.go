package event

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decodeReport reads a report. What [CreateOps] writes, without anything escaped in
// it, is read by a single pass: encoding/json takes a tenth of what it costs to take
// in an event. All else is left to that; both read the same.
func decodeReport(text string, r *Report) error {
	if plain, rest, ok := PlainReport(text); ok && rest == "" {
		*r = plain
		return nil
	}
	*r = Report{}
	return json.Unmarshal([]byte(text), r)
}

// PlainReport reads a JSON object of a report's fields, without spaces between them
// and none of which needs unescaping, and returns what follows it. It reports whether
// it could; what it reads is what encoding/json reads.
func PlainReport(text string) (r Report, rest string, ok bool) {
	rest, ok = strings.CutPrefix(text, "{")
	for ok {
		var key, value string
		if key, rest, ok = PlainString(rest); !ok {
			return r, rest, false
		}
		if rest, ok = strings.CutPrefix(rest, ":"); !ok {
			return r, rest, false
		}
		if strings.HasPrefix(rest, `"`) {
			value, rest, ok = PlainString(rest)
			ok = ok && setText(&r, key, value)
		} else {
			end := max(strings.IndexAny(rest, ",}"), 0)
			value, rest = rest[:end], rest[end:]
			ok = setNumber(&r, key, value)
		}
		if after, end := strings.CutPrefix(rest, "}"); !ok || end {
			return r, after, ok
		}
		rest, ok = strings.CutPrefix(rest, ",")
	}
	return r, rest, false
}

// PlainString reads a JSON string without escapes and returns what follows it.
func PlainString(s string) (value, rest string, ok bool) {
	if s, ok = strings.CutPrefix(s, `"`); !ok {
		return "", "", false
	}
	end := strings.IndexByte(s, '"')
	if end < 0 {
		return "", "", false
	}
	value = s[:end]
	for i := range len(value) {
		if value[i] < ' ' || value[i] == '\\' {
			return "", "", false
		}
	}
	return value, s[end+1:], utf8.ValidString(value)
}

func setText(r *Report, key, value string) bool {
	switch key {
	case "source_key":
		r.SourceKey = value
	case "type":
		r.Type = value
	case "title":
		r.Title = value
	case "text":
		r.Text = value
	case "place":
		r.Place = value
	case "reporter":
		r.Reporter = value
	case "channel":
		r.Channel = value
	case "grid":
		r.Grid = value
	case "doubt":
		r.Doubt = value
	default:
		return false
	}
	return true
}

// setNumber takes numbers as they are written here: without an exponent, and no zero
// in front of another digit.
func setNumber(r *Report, key, value string) bool {
	digits := strings.TrimPrefix(value, "-")
	whole, fraction, broken := strings.Cut(digits, ".")
	if !isDigits(whole) || len(whole) > 1 && whole[0] == '0' || broken && !isDigits(fraction) {
		return false
	}
	switch key {
	case "lat", "lon":
		f, err := strconv.ParseFloat(value, 64)
		if key == "lat" {
			r.Lat = &f
		} else {
			r.Lon = &f
		}
		return err == nil
	case "priority":
		n, err := strconv.Atoi(value)
		r.Priority = n
		return err == nil
	case "reported_at_ms":
		n, err := strconv.ParseInt(value, 10, 64)
		r.ReportedAtMS = n
		return err == nil
	default:
		return false
	}
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
