package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

func (b *backend) Explain(_ context.Context, event string) (api.Explanation, error) {
	return api.Explanation{State: event}, b.err
}

func (b *backend) PublishRules(_ context.Context, r api.RulesRequest) (api.RulesResult, error) {
	return api.RulesResult{Rules: len(r.Rules), Published: !r.DryRun}, b.err
}

func (b *backend) Units(context.Context) (api.UnitList, error) { return api.UnitList{}, b.err }

func named(code, holder string) api.UnitStatus {
	return api.UnitStatus{UnitView: responder.UnitView{Unit: responder.Unit{Code: code}}, Holder: holder}
}

func (b *backend) RegisterUnit(_ context.Context, r api.UnitRequest) (api.UnitStatus, error) {
	return named(r.Unit.Code, ""), b.err
}

func (b *backend) SetUnit(_ context.Context, code string, r api.UnitSetRequest) (api.UnitStatus, error) {
	return named(code, r.Status), b.err
}

func (b *backend) ClaimUnit(_ context.Context, code string, r api.UnitClaimRequest) (responder.Order, error) {
	return responder.Order{Epoch: responder.Epoch{Home: 1<<63 + 1, Lent: 2}, For: code + r.Holder}, b.err
}

func (b *backend) ReleaseUnit(_ context.Context, code string, r api.UnitReleaseRequest) (api.UnitStatus, error) {
	return named(code, r.Epoch.String()), b.err
}

func (b *backend) CheckUnit(_ context.Context, code string, r api.UnitCheckRequest) (api.UnitVerdict, error) {
	return api.UnitVerdict{Obey: true, Reason: code, Order: responder.Order{Epoch: r.Epoch}, Held: responder.Order{Epoch: r.Last}}, b.err
}

func (b *backend) AskUnit(_ context.Context, r api.UnitAskRequest) (responder.RequestView, error) {
	return responder.RequestView{Request: responder.Request{Home: r.Home}}, b.err
}

func (b *backend) ReturnUnit(_ context.Context, name string, _ api.KeyRequest) (responder.RequestView, error) {
	return responder.RequestView{Unit: name}, b.err
}

func (b *backend) Lend(_ context.Context, r api.LendRequest) (responder.PoolView, error) {
	return responder.PoolView{UntilMS: r.UntilMS}, b.err
}

func (b *backend) ChangePool(_ context.Context, name string, r api.PoolRequest) (responder.PoolView, error) {
	return responder.PoolView{State: name, Reason: r.Do}, b.err
}

// responderSchemas are the documented structs with every field set.
func responderSchemas() map[string]any {
	f, e := 1.0, responder.Epoch{Home: 1}
	unit := responder.UnitView{Log: []responder.Forced{{}}, Conflicts: []crdt.Conflict{{}}, Pending: 1, Refused: 1}
	return map[string]any{
		"Limit": dispatch.Limit{}, "RulesResult": api.RulesResult{}, "RulesRequest": api.RulesRequest{},
		"Rule":          dispatch.Rule{Mode: "x", TypePrefix: "x", Category: "x", PriorityMax: 1, When: "x", Site: "x", Plan: "x", Skill: "x"},
		"Tried":         dispatch.Tried{Why: "x"},
		"Decision":      dispatch.Decision{Site: "x", Plan: "x", Skill: "x"},
		"CandidateUnit": dispatch.Unit{Name: "x", Skills: []string{"x"}, Busy: "x"}, "Candidate": dispatch.Candidate{DistanceM: &f},
		"Explanation": api.Explanation{Category: "x", Decision: &dispatch.Decision{}, Site: "x"},
		"Unit":        responder.Unit{}, "Position": responder.Position{}, "ForcedEntry": responder.Forced{}, "UnitList": api.UnitList{},
		"UnitStatus":  api.UnitStatus{UnitView: unit, Position: &responder.Position{}, Pool: "x", Holder: "x", Epoch: e, Why: "x"},
		"UnitRequest": api.UnitRequest{}, "UnitSetRequest": api.UnitSetRequest{Status: "x", Lat: &f, Lon: &f},
		"UnitClaimRequest":   api.UnitClaimRequest{Home: "x", Force: true, Reason: "x"},
		"UnitReleaseRequest": api.UnitReleaseRequest{Home: "x"}, "UnitCheckRequest": api.UnitCheckRequest{Home: "x", Last: e},
		"Order": responder.Order{NotAfterMS: 1}, "UnitVerdict": api.UnitVerdict{Reason: "x"},
		"UnitAskRequest": api.UnitAskRequest{Unit: "x", Skill: "x", Lat: &f, Lon: &f}, "KeyRequest": api.KeyRequest{},
		"UnitStep":        responder.Entry{Unit: "x", Epoch: e, Reason: "x", UntilMS: 1},
		"UnitAsked":       responder.Request{Unit: "x", Skill: "x", Lat: &f, Lon: &f},
		"UnitRequestView": responder.RequestView{Unit: "x", Epoch: e, Reason: "x", Pending: 1, Refused: 1},
		"LendRequest":     api.LendRequest{}, "Lent": responder.Lent{Lat: &f, Lon: &f}, "Pool": responder.Pool{},
		"PoolView":    responder.PoolView{Reason: "x", Pending: 1, Refused: 1},
		"PoolRequest": api.PoolRequest{UntilMS: 1, Force: true, Reason: "x"},
	}
}

// TestResponderClient: what the client asks reaches the backend, and its answer
// the client, epochs of 64 bits among it.
func TestResponderClient(t *testing.T) {
	b := &backend{}
	c, _ := serve(t, b)
	ctx := limited(t)
	epoch := responder.Epoch{Home: 1<<63 + 1, Lent: 2}
	for what, f := range map[string]func() (string, error){
		"explain": func() (string, error) { x, err := c.Explain(ctx, "e1"); return x.State, err },
		"rules": func() (string, error) {
			x, err := c.PublishRules(ctx, api.RulesRequest{Key: "k", Rules: make([]dispatch.Rule, 3)})
			return fmt.Sprint(x), err
		},
		"register": func() (string, error) {
			x, err := c.RegisterUnit(ctx, api.UnitRequest{Key: "k", Unit: responder.Unit{Code: "u"}})
			return x.Code, err
		},
		"set": func() (string, error) {
			x, err := c.SetUnit(ctx, "u/1", api.UnitSetRequest{Key: "k", Status: "s"})
			return x.Code + x.Holder, err
		},
		"claim": func() (string, error) {
			x, err := c.ClaimUnit(ctx, "u", api.UnitClaimRequest{Key: "k", Holder: "h"})
			return x.For + x.Epoch.String(), err
		},
		"release": func() (string, error) {
			x, err := c.ReleaseUnit(ctx, "u", api.UnitReleaseRequest{Key: "k", Epoch: epoch})
			return x.Holder, err
		},
		"check": func() (string, error) {
			x, err := c.CheckUnit(ctx, "u", api.UnitCheckRequest{Epoch: epoch})
			return x.Reason + x.Order.Epoch.String(), err
		},
		"ask": func() (string, error) {
			x, err := c.AskUnit(ctx, api.UnitAskRequest{Key: "k", Home: "h"})
			return string(x.Request.Home), err
		},
		"return": func() (string, error) { x, err := c.ReturnUnit(ctx, "r", api.KeyRequest{Key: "k"}); return x.Unit, err },
		"lend": func() (string, error) {
			x, err := c.Lend(ctx, api.LendRequest{Key: "k", UntilMS: 5})
			return fmt.Sprint(x.UntilMS), err
		},
		"pool": func() (string, error) {
			x, err := c.ChangePool(ctx, "p", api.PoolRequest{Key: "k", Do: "d"})
			return x.State + x.Reason, err
		},
	} {
		want := map[string]string{
			"explain": "e1", "rules": "{3 true}", "register": "u", "set": "u/1s", "claim": "uh9223372036854775809.2",
			"release": "9223372036854775809.2", "check": "u9223372036854775809.2", "ask": "h", "return": "r", "lend": "5", "pool": "pd",
		}[what]
		if got, err := f(); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
	b.err = fmt.Errorf("%w: held", api.ErrRejected)
	if _, err := c.ClaimUnit(ctx, "u", api.UnitClaimRequest{Key: "k"}); !errors.Is(err, api.ErrRejected) {
		t.Errorf("a rejection: %v", err)
	}
}

// TestResponderRefusals: bad requests are answered with what is wrong.
func TestResponderRefusals(t *testing.T) {
	_, path := serve(t, &backend{})
	for name, row := range map[string]struct{ method, target, body, want string }{
		"no key":      {"POST", "/v1/responders/u/claim", `{}`, "key of 0 bytes"},
		"bad epoch":   {"POST", "/v1/responders/u/check", `{"epoch":"1.2.3"}`, "want a number"},
		"an epoch -1": {"POST", "/v1/responders/u/release", `{"key":"k","epoch":"-1"}`, "want a number"},
		"1 MB":        {"POST", "/v1/unitrequests", `{"key":"k","reason":"` + strings.Repeat("x", 1<<20) + `"}`, "over 1048576"},
		"unknown":     {"POST", "/v1/pools", `{"key":"k","colour":"red"}`, "colour"},
		"filter":      {"GET", "/v1/responders?skill=fire", ``, "skill"},
	} {
		if status, text := raw(t, path, row.method, row.target, row.body); status != 400 || !strings.Contains(text, row.want) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}
