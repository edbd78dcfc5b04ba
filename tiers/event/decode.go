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

// setText sets a field; one that is set already is not read here.
func setText(r *Report, key, value string) bool {
	var field *string
	switch key {
	case "source_key":
		field = &r.SourceKey
	case "type":
		field = &r.Type
	case "title":
		field = &r.Title
	case "text":
		field = &r.Text
	case "place":
		field = &r.Place
	case "reporter":
		field = &r.Reporter
	case "channel":
		field = &r.Channel
	case "grid":
		field = &r.Grid
	case "doubt":
		field = &r.Doubt
	default:
		return false
	}
	if *field != "" {
		return false
	}
	*field = value
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
		field := &r.Lat
		if key == "lon" {
			field = &r.Lon
		}
		again := *field != nil
		*field = &f
		return err == nil && !again
	case "priority":
		n, err := strconv.Atoi(value)
		again := r.Priority != 0
		r.Priority = n
		return err == nil && !again
	case "reported_at_ms":
		n, err := strconv.ParseInt(value, 10, 64)
		again := r.ReportedAtMS != 0
		r.ReportedAtMS = n
		return err == nil && !again
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
