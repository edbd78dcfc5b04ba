package api_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
)

// described checks that the API's description has each value's fields in the schema
// of its name, and no other. A value's fields that may be left out must be set.
func described(t *testing.T, values map[string]any) {
	t.Helper()
	_, path := serve(t, &backend{})
	_, text := raw(t, path, "GET", "/v1/openapi.json", "")
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for name, v := range values {
		schema(t, doc.Components.Schemas[name].Properties, name, v)
	}
}

// schema compares a struct's fields with those that are documented.
func schema(t *testing.T, documented map[string]any, name string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	have := slices.Sorted(maps.Keys(documented))
	if want := slices.Sorted(maps.Keys(fields)); !slices.Equal(have, want) {
		t.Errorf("%s: described %v, sent %v", name, have, want)
	}
}
