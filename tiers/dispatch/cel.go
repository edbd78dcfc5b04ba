package dispatch

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/paulmach/orb"
	"github.com/paulmach/orb/geo"
)

// Limits of an expression: its source in bytes, and what one evaluation may cost
// in CEL's units, about one for each step and each ten bytes looked at. The
// bound is proven when the rule is published, from the most that an expression
// is shown of an event. Evaluation does not count again: it would take six times
// as long.
const (
	whenBytesMax = 2 << 10
	costMax      = 5_000
	// subjectBytesMax is what is looked at of a text of an event.
	subjectBytesMax = 512
)

// localTime is the time zone of the time.* variables: China has one.
var localTime = time.FixedZone("CST", 8*60*60)

// Subject is what the rules look at: an event, when and where.
type Subject struct {
	Type, Category string
	Priority       int
	Title, Place   string
	Grid, Channel  string
	// Site and Tier are where the event was reported.
	Site, Tier string
	// Lat and Lon are WGS 84 degrees; HasPoint says that they are known.
	Lat, Lon float64
	HasPoint bool
	// At is when it is dispatched.
	At time.Time
	SubjectMode
}

// variables are what an expression can name, with their types.
var variables = []struct {
	name string
	typ  *cel.Type
	get  func(*Subject) ref.Val
}{
	{"event.type", cel.StringType, func(s *Subject) ref.Val { return text(s.Type) }},
	{"event.category", cel.StringType, func(s *Subject) ref.Val { return text(s.Category) }},
	{"event.priority", cel.IntType, func(s *Subject) ref.Val { return types.Int(s.Priority) }},
	{"event.title", cel.StringType, func(s *Subject) ref.Val { return text(s.Title) }},
	{"event.channel", cel.StringType, func(s *Subject) ref.Val { return text(s.Channel) }},
	{"place.name", cel.StringType, func(s *Subject) ref.Val { return text(s.Place) }},
	{"place.grid", cel.StringType, func(s *Subject) ref.Val { return text(s.Grid) }},
	{"place.site", cel.StringType, func(s *Subject) ref.Val { return text(s.Site) }},
	{"place.tier", cel.StringType, func(s *Subject) ref.Val { return text(s.Tier) }},
	{"place.known", cel.BoolType, func(s *Subject) ref.Val { return types.Bool(s.HasPoint) }},
	{"place.lat", cel.DoubleType, func(s *Subject) ref.Val { return types.Double(s.Lat) }},
	{"place.lon", cel.DoubleType, func(s *Subject) ref.Val { return types.Double(s.Lon) }},
	{"time.hour", cel.IntType, func(s *Subject) ref.Val { return types.Int(s.At.In(localTime).Hour()) }},
	{"time.weekday", cel.IntType, func(s *Subject) ref.Val { return types.Int(s.At.In(localTime).Weekday()) }},
	{"mode", cel.StringType, func(s *Subject) ref.Val { return types.String(s.mode()) }},
	{"level", cel.IntType, func(s *Subject) ref.Val { return types.Int(s.Level) }},
	{"time.month", cel.IntType, func(s *Subject) ref.Val { return types.Int(s.At.In(localTime).Month()) }},
}

// text is what an expression sees of a text: what the cost was proven for.
func text(s string) ref.Val {
	if len(s) > subjectBytesMax {
		n := subjectBytesMax
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return types.String(s)
}

// Variables lists what an expression can name, each with its type.
func Variables() []string {
	out := make([]string, 0, len(variables)+1)
	for _, v := range variables {
		out = append(out, v.name+" "+v.typ.String())
	}
	return append(out, "km(lat, lon, lat, lon) double")
}

// TimeNote says what the time.* variables are, for help: CEL's own functions of
// timestamps are of UTC and count months from 0.
const TimeNote = "time.* are whole numbers, of the time of dispatch at UTC+8: hour 0 to 23, weekday 0 (Sunday) to 6, month 1 to 12"

// environment is built once, on first use: it takes milliseconds and is
// immutable.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	opts := []cel.EnvOption{
		cel.ParserRecursionLimit(32), cel.ParserExpressionSizeLimit(whenBytesMax),
		// great-circle distance in kilometres
		cel.Function("km", cel.Overload("km_doubles", []*cel.Type{cel.DoubleType, cel.DoubleType, cel.DoubleType, cel.DoubleType}, cel.DoubleType,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val {
				var f [4]float64
				for i, a := range args {
					d, ok := a.(types.Double)
					if !ok {
						return types.NewErr("km: argument %d is a %s", i+1, a.Type())
					}
					f[i] = float64(d)
				}
				d := metres(f[0], f[1], f[2], f[3])
				if math.IsNaN(d) {
					return types.NewErr("km: no distance between %v, %v and %v, %v", f[0], f[1], f[2], f[3])
				}
				return types.Double(d / 1000)
			}))),
	}
	for _, v := range variables {
		opts = append(opts, cel.Variable(v.name, v.typ))
	}
	return cel.NewEnv(opts...)
})

// metres is the great-circle distance between two points given in degrees; NaN where
// one is no point. Of some points that are opposite each other the library has NaN,
// too, since rounding takes a square root past 1: they are half the way round.
func metres(lat1, lon1, lat2, lon2 float64) float64 {
	d := geo.DistanceHaversine(orb.Point{lon1, lat1}, orb.Point{lon2, lat2})
	if math.IsNaN(d) && math.Abs(lat1) <= 90 && math.Abs(lat2) <= 90 && math.Abs(lon1) <= 360 && math.Abs(lon2) <= 360 {
		return math.Pi * orb.EarthRadius
	}
	return d
}

// sizes bounds the variables for the proof of cost.
type sizes struct{}

// EstimateSize bounds a text variable; of all else the library knows the size.
func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if p := n.Path(); len(p) > 0 && n.Type().IsExactType(types.StringType) {
		e := cost.RangedSizeEstimate(0, subjectBytesMax)
		return &e
	}
	return nil
}

// EstimateCallCost is the cost of our own function.
func (sizes) EstimateCallCost(function, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	if function == "km" {
		return &cost.CallEstimate{CostEstimate: cost.Estimate{Min: 10, Max: 10}}
	}
	return nil
}

// Expression is a compiled condition. It is safe for concurrent use.
type Expression struct {
	program cel.Program // nil: always true
}

// Compile compiles a condition; the empty one is always true. The error wraps
// [ErrInvalid]: the text does not compile, is not boolean, or its proven cost
// is over the limit.
func Compile(when string) (*Expression, error) {
	if when == "" {
		return &Expression{}, nil
	}
	if len(when) > whenBytesMax {
		return nil, fmt.Errorf("%w: expression of %d bytes: want at most %d", ErrInvalid, len(when), whenBytesMax)
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("expressions: %w", err)
	}
	ast, issues := env.Compile(when)
	if issues.Err() != nil {
		return nil, fmt.Errorf("%w: expression %.80q: %s; it may name %s", ErrInvalid, when,
			strings.Join(strings.Fields(issues.Err().Error()), " "), strings.Join(Variables(), ", "))
	}
	if !reflect.DeepEqual(ast.OutputType(), cel.BoolType) {
		return nil, fmt.Errorf("%w: expression %.80q is of type %s: want bool", ErrInvalid, when, ast.OutputType())
	}
	estimate, err := env.EstimateCost(ast, sizes{})
	if err != nil {
		return nil, fmt.Errorf("%w: expression %.80q: %w", ErrInvalid, when, err)
	}
	if estimate.Max > costMax {
		return nil, fmt.Errorf("%w: expression %.80q may cost %d: want at most %d", ErrInvalid, when, estimate.Max, costMax)
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("%w: expression %.80q: %w", ErrInvalid, when, err)
	}
	return &Expression{program}, nil
}

// match evaluates the condition. An error, such as a division by zero, is no
// match, with the reason.
func (e *Expression) match(s *activation) (bool, string) {
	if e.program == nil {
		return true, ""
	}
	out, _, err := e.program.Eval(s)
	if err != nil {
		return false, err.Error()
	}
	return out == types.True, ""
}

// activation shows a subject to expressions. It is used by one goroutine.
type activation struct {
	subject *Subject
	values  [32]ref.Val // by place in variables; nil until asked for
}

// index finds a variable's place by its name.
var index = func() map[string]int {
	out := make(map[string]int, len(variables))
	for i, v := range variables {
		out[v.name] = i
	}
	return out
}()

// ResolveName returns a variable's value.
func (a *activation) ResolveName(name string) (any, bool) {
	i, ok := index[name]
	if !ok {
		return nil, false
	}
	if a.values[i] == nil {
		a.values[i] = variables[i].get(a.subject)
	}
	return a.values[i], true
}

// Parent returns nil: there is no other scope.
func (a *activation) Parent() cel.Activation { return nil }
