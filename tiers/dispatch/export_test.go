package dispatch

import "cel.dev/cel-go/cel"

// CostMax is the limit.
const CostMax = costMax

// Cost returns what evaluating an expression costs and what was proven of it.
func Cost(when string, s Subject) (actual, proven uint64, err error) {
	env, err := environment()
	if err != nil {
		return 0, 0, err
	}
	ast, issues := env.Compile(when)
	if issues.Err() != nil {
		return 0, 0, issues.Err()
	}
	estimate, err := env.EstimateCost(ast, sizes{})
	if err != nil {
		return 0, 0, err
	}
	program, err := env.Program(ast, cel.CostTracking(nil))
	if err != nil {
		return 0, 0, err
	}
	_, details, err := program.Eval(&activation{subject: &s})
	if err != nil {
		return 0, 0, err
	}
	return *details.ActualCost(), estimate.Max, nil
}
