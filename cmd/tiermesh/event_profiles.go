package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/tiers/event"
)

// profiles are the mappings of exports that many cities publish; see the portals of
// New York, Los Angeles and Chicago.
var profiles = map[string]string{
	"nyc311": `{"map": {"source_key": ["Unique Key"], "type": ["Complaint Type"], "title": ["Descriptor"], "reported_at": ["Created Date"],
		"lat": ["Latitude"], "lon": ["Longitude"], "channel": ["Open Data Channel Type"]},
		"time_format": "%m/%d/%Y %I:%M:%S %p", "time_zone": "America/New_York", "default_priority": 3}`,
	"la311": `{"map": {"source_key": ["SRNumber"], "type": ["RequestType"], "title": ["RequestType"], "reported_at": ["CreatedDate"],
		"lat": ["Latitude"], "lon": ["Longitude"], "place": ["Address"], "channel": ["RequestSource"]},
		"time_format": "%m/%d/%y %H:%M", "time_zone": "America/Los_Angeles", "default_priority": 3}`,
	"open311": `{"map": {"source_key": ["service_request_id"], "type": ["service_code"], "title": ["service_name"], "text": ["description"],
		"reported_at": ["requested_datetime"], "place": ["address"], "lon": ["long"]}, "default_priority": 3}`,
}

func profileNames() []string { return slices.Sorted(maps.Keys(profiles)) }

// loadProfile reads a mapping. The error wraps [errInput].
func loadProfile(name string, into *mapping) error {
	text, ok := profiles[name]
	if !ok {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("%w: --profile: %w; want a file, or one of %s", errInput, err, strings.Join(profileNames(), ", "))
		}
		text = string(b)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	var m mapping
	err := dec.Decode(&m)
	if err == nil {
		if _, rest := dec.Token(); !errors.Is(rest, io.EOF) {
			err = errors.New("more than one JSON value")
		}
	}
	if err != nil {
		return fmt.Errorf("%w: profile %s: %w", errInput, name, err)
	}
	*into = m
	return nil
}

// saveProfile writes a mapping, for loadProfile.
func saveProfile(file string, m *mapping) error {
	if m.TimeZone == "Local" {
		return usagef("--save-profile: zone Local is another one on other machines: name the zone with --time-zone")
	}
	b, err := encodeJSON(m)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if err := os.WriteFile(file, append(out.Bytes(), '\n'), 0o600); err != nil {
		return fmt.Errorf("%w: --save-profile: %w", errInput, err)
	}
	return nil
}

// alike are names that columns have for fields, without their spaces and in small
// letters: what a suggestion is made of.
var alike = map[string][]string{
	"source_key":  {"uniquekey", "srnumber", "servicerequestid", "servicerequestnumber", "casenumber", "requestid", "key", "编号", "工单号"},
	"type":        {"complainttype", "requesttype", "servicecode", "srtype", "category", "类型", "事件类型"},
	"title":       {"descriptor", "servicename", "subject", "name", "summary", "标题"},
	"text":        {"description", "details", "resolutiondescription", "comments", "内容", "描述"},
	"place":       {"incidentaddress", "address", "location", "streetaddress", "地点", "地址"},
	"lat":         {"latitude", "y", "纬度"},
	"lon":         {"longitude", "long", "lng", "x", "经度"},
	"priority":    {"urgency", "severity", "优先级"},
	"reporter":    {"submittedby", "报告人"},
	"channel":     {"opendatachanneltype", "requestsource", "source", "渠道", "来源"},
	"reported_at": {"createddate", "requesteddatetime", "openeddate", "datecreated", "opened", "created", "timestamp", "date", "time", "上报时间", "时间"},
}

// suggestMap is the flag that would map columns, as far as their names tell.
func suggestMap(columns []string) string {
	var parts []string
	for _, field := range event.Fields() {
		if slices.Contains(columns, field) {
			continue
		}
		for _, c := range columns {
			if slices.Contains(alike[field], strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(c))) {
				parts = append(parts, field+"="+c)
				break
			}
		}
	}
	if len(parts) == 0 {
		return "--map 'type=COLUMN,title=COLUMN'"
	}
	return "--map '" + strings.ReplaceAll(strings.Join(parts, ","), "'", `'\''`) + "'"
}
