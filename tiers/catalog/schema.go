package catalog

import (
	"math"
	"slices"
)

// Type is the type of a field's value; in a document all are text in one canonical
// form each.
type Type string

// The types of fields.
const (
	Text   Type = "text"
	Int    Type = "int"
	Number Type = "number"
	Enum   Type = "enum"
	Bool   Type = "bool"
	// List is words with spaces between them, in CSV, and an array in JSON.
	List Type = "list"
	// Nested is a JSON array or object.
	Nested Type = "json"
	// Semver is a version, MAJOR.MINOR.PATCH with an optional pre-release part.
	Semver Type = "version"
)

// Field describes a field of a catalog's entries.
type Field struct {
	Name     string `json:"name"`
	Type     Type   `json:"type"`
	Required bool   `json:"required,omitempty"`
	// Min and Max bound an Int or Number; of a text Max is its length in bytes.
	Min float64 `json:"min,omitempty"`
	Max float64 `json:"max"`
	// Values are what an Enum, or a word of a List, may be.
	Values []string `json:"values,omitempty"`
	// Ref names the catalog that the value, or each word, is an entry of.
	Ref string `json:"ref,omitempty"`
	// Default is what a new entry has that does not give the field.
	Default string `json:"default,omitempty"`
}

// Catalog is a catalog's schema.
type Catalog struct {
	// Name is what people call it by; Chinese is the term of the decree.
	Name    string `json:"name"`
	Chinese string `json:"chinese"`
	// Kind is the kind of its entries' documents.
	Kind   string  `json:"kind"`
	Fields []Field `json:"fields"`
	// check is what single fields do not say; nil for nothing.
	check func(Fields) *Problem
}

// The names of the catalogs.
const (
	Boards     = "boards"
	Types      = "types"
	Matters    = "matters"
	Components = "components"
	Organs     = "organs"
	Plans      = "plans"
	Rules      = "rules"
	Calendars  = "calendars"
	Resources  = "resources"
	Sensors    = "sensors"
	Apps       = "apps"
)

// The kinds of documents that only this package's catalogs have.
const (
	KindMatter    = "matter"
	KindComponent = "component"
	KindOrgan     = "organ"
	KindResource  = "resource"
	KindSensor    = "sensor"
	KindApp       = "app"
)

// Retired is the field that an entry has when it is no longer to be used. An entry
// is never deleted: records name it.
const Retired = "retired"

// Bounds of texts, in bytes.
const (
	codeBytesMax = 80
	nameBytesMax = 512
	textBytesMax = 4096
	jsonBytesMax = 64 << 10
)

var (
	tierNames   = []string{"city", "district", "township"}
	organRoles  = []string{"lead", "co", "verify"}
	limitUnits  = []string{"urgent_hour", "hour", "day"}
	assetStates = []string{"in_use", "damaged", "repaired", "removed"}
)

func text(name string, required bool) Field {
	return Field{Name: name, Type: Text, Required: required, Max: nameBytesMax}
}

func ref(name, to string, required bool) Field {
	return Field{Name: name, Type: Text, Required: required, Max: nameBytesMax, Ref: to}
}

func enum(name string, required bool, values ...string) Field {
	return Field{Name: name, Type: Enum, Required: required, Max: 64, Values: values}
}

func number(name string, low, high float64) Field {
	return Field{Name: name, Type: Number, Min: low, Max: high}
}

func whole(name string, low, high float64, def string) Field {
	return Field{Name: name, Type: Int, Min: low, Max: high, Default: def}
}

func list(name string, values ...string) Field {
	return Field{Name: name, Type: List, Max: textBytesMax, Values: values}
}

func long(name string) Field { return Field{Name: name, Type: Text, Max: textBytesMax} }

// placed are the fields of what stands somewhere.
func placed() []Field {
	return []Field{text("place", false), text("grid", false), number("lat", -90, 90), number("lon", -180, 180)}
}

func schema(name, chinese, kind string, check func(Fields) *Problem, fields ...Field) *Catalog {
	all := append([]Field{{Name: "code", Type: Text, Required: true, Max: codeBytesMax}}, fields...)
	all = append(all, Field{Name: Retired, Type: Bool, Max: 5})
	return &Catalog{Name: name, Chinese: chinese, Kind: kind, Fields: all, check: check}
}

// Catalogs returns the schemas, in the order in which they refer to each other:
// what an entry refers to is imported before it. The caller owns the slice, and
// leaves what it points to as it is.
func Catalogs() []*Catalog {
	limit := whole("limit_amount", 1, 1000, "")
	limit.Required = true
	optional := whole("limit_amount", 1, 1000, "")
	steps := Field{Name: "steps", Type: Nested, Required: true, Max: jsonBytesMax}
	hours := Field{Name: "hours", Type: List, Required: true, Max: textBytesMax}
	version := Field{Name: "version", Type: Semver, Required: true, Max: 64}
	app := text("app", true)
	app.Max = 40
	offset := whole("offset", -14*60, 14*60, "")
	offset.Required = true
	return []*Catalog{
		schema(Boards, "板块", "board", nil, text("name", true), enum("tier", false, tierNames...)),
		schema(Organs, "机构及职责", KindOrgan, nil, text("name", true), ref("parent", Organs, false),
			list("tiers", tierNames...), list("types"), list("roles", organRoles...), long("duty")),
		schema(Types, "事件类型", KindEventType, nil, text("category", true), text("name", true),
			ref("board", Boards, false), text("track", false), whole("priority", 1, 4, ""), long("description")),
		schema(Matters, "事项", KindMatter, nil, text("name", true), ref("type", Types, false), ref("organ", Organs, false),
			optional, enum("limit_unit", false, limitUnits...), long("description")),
		schema(Components, "部件", KindComponent, checkPoint, append([]Field{
			text("name", true), text("category", true), ref("organ", Organs, false), enum("state", false, assetStates...),
		}, placed()...)...),
		schema(Calendars, "时限日历", "calendar", nil, offset, hours, list("weekend", "0", "1", "2", "3", "4", "5", "6"),
			Field{Name: "holidays", Type: List, Max: 16 << 10}, Field{Name: "workdays", Type: List, Max: 16 << 10}),
		schema(Plans, "预案", "plan", nil, text("name", false), steps),
		schema(Rules, "分拨规则", "rule", nil, whole("order", -math.MaxInt32, math.MaxInt32, "0"), text("type_prefix", false),
			text("category", false), whole("priority_max", 0, 4, "0"), long("when"), ref("organ", Organs, true), limit,
			enum("limit_unit", true, limitUnits...), text("site", false), ref("plan", Plans, false), text("skill", false),
			enum("mode", false, "normal", "emergency")),
		schema(Resources, "数字资源", KindResource, nil, text("name", true), enum("kind", true, "data", "compute", "algorithm"),
			ref("organ", Organs, false), enum("access", true, "open", "grant"), text("format", false), text("unit", false),
			number("quantity", 0, 1e15), long("description")),
		schema(Sensors, "感知资源", KindSensor, checkPoint, append([]Field{
			text("name", true), enum("kind", true, "camera", "sensor", "radar", "satellite", "drone"), ref("organ", Organs, false),
			text("series", false), text("unit", false), enum("state", false, assetStates...),
		}, placed()...)...),
		schema(Apps, "数字化应用", KindApp, checkApp, app, version, text("name", true), text("package", false),
			number("cpu_cores", 0, 1e6), number("memory_mb", 0, 1e9), number("disk_mb", 0, 1e12), whole("gpu", 0, 1e6, ""),
			list("runtimes"), list("needs"), long("description")),
	}
}

// Find returns the catalog with a name.
func Find(name string) (*Catalog, bool) {
	return first(Catalogs(), func(c *Catalog) bool { return c.Name == name })
}

// OfKind returns the catalog whose entries' documents have a kind.
func OfKind(kind string) (*Catalog, bool) {
	return first(Catalogs(), func(c *Catalog) bool { return c.Kind == kind })
}

func first[T any](all []T, is func(T) bool) (out T, ok bool) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], true
	}
	return out, false
}

// Names lists the catalogs' names.
func Names() (out []string) {
	for _, c := range Catalogs() {
		out = append(out, c.Name)
	}
	return out
}

// Field returns the field with a name.
func (c *Catalog) Field(name string) (Field, bool) {
	return first(c.Fields, func(f Field) bool { return f.Name == name })
}

// Columns lists the names of the fields.
func (c *Catalog) Columns() (out []string) {
	for _, f := range c.Fields {
		out = append(out, f.Name)
	}
	return out
}

// RefersToItself reports whether entries may refer to others of the same catalog.
func (c *Catalog) RefersToItself() bool {
	return slices.ContainsFunc(c.Fields, func(f Field) bool { return f.Ref == c.Name })
}
