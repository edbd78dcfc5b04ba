package node

import (
	"context"
	"fmt"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// Explain implements [api.Responders].
func (b backend) Explain(ctx context.Context, name string) (api.Explanation, error) {
	out, err := b.n.Explain(ctx, name)
	return out, translate(err)
}

// PublishRules implements [api.Responders].
func (b backend) PublishRules(ctx context.Context, r api.RulesRequest) (api.RulesResult, error) {
	err := b.n.PublishRules(ctx, "api:"+r.Key, r.Rules, r.DryRun)
	return api.RulesResult{Rules: len(r.Rules), Published: err == nil && !r.DryRun}, translate(err)
}

// Units implements [api.Responders].
func (b backend) Units(ctx context.Context) (api.UnitList, error) {
	all, err := b.n.Units(ctx)
	if all == nil {
		all = []api.UnitStatus{}
	}
	return api.UnitList{Items: all}, translate(err)
}

// status is one unit as the list shows it.
func (b backend) status(home tiers.SiteID, code string) (api.UnitStatus, error) {
	u, err := b.n.board.unit(b.n, b.n.ref(home, code))
	if err != nil {
		return api.UnitStatus{}, translate(err)
	}
	return b.n.statusOf(&u), nil
}

// RegisterUnit implements [api.Responders].
func (b backend) RegisterUnit(ctx context.Context, r api.UnitRequest) (api.UnitStatus, error) {
	if _, err := b.n.RegisterUnit(ctx, "api:"+r.Key, r.Unit); err != nil {
		return api.UnitStatus{}, translate(err)
	}
	return b.status("", r.Unit.Code)
}

// SetUnit implements [api.Responders].
func (b backend) SetUnit(ctx context.Context, code string, r api.UnitSetRequest) (api.UnitStatus, error) {
	if err := b.n.SetUnit(ctx, "api:"+r.Key, code, UnitChange{Status: r.Status, Lat: r.Lat, Lon: r.Lon}); err != nil {
		return api.UnitStatus{}, translate(err)
	}
	return b.status("", code)
}

// ClaimUnit implements [api.Responders].
func (b backend) ClaimUnit(ctx context.Context, code string, r api.UnitClaimRequest) (responder.Order, error) {
	o, err := b.n.ClaimUnit(ctx, "api:"+r.Key, r.Home, code, r.Holder, r.Force, r.Reason)
	return o, translate(err)
}

// ReleaseUnit implements [api.Responders].
func (b backend) ReleaseUnit(ctx context.Context, code string, r api.UnitReleaseRequest) (api.UnitStatus, error) {
	if err := b.n.ReleaseUnit(ctx, "api:"+r.Key, r.Home, code, r.Epoch); err != nil {
		return api.UnitStatus{}, translate(err)
	}
	return b.status(r.Home, code)
}

// CheckUnit implements [api.Responders].
func (b backend) CheckUnit(ctx context.Context, code string, r api.UnitCheckRequest) (api.UnitVerdict, error) {
	v, err := b.n.CheckUnit(ctx, r.Home, code, r.Epoch, r.Last)
	return v, translate(err)
}

// AskUnit implements [api.Responders].
func (b backend) AskUnit(ctx context.Context, r api.UnitAskRequest) (responder.RequestView, error) {
	k, err := b.n.AskUnit(ctx, "api:"+r.Key, responder.Request{
		Home: r.Home, Unit: r.Unit, Skill: r.Skill, For: r.For, Reason: r.Reason, Lat: r.Lat, Lon: r.Lon,
	})
	if err != nil {
		return responder.RequestView{}, translate(err)
	}
	v, err := b.n.requestAt(k)
	return v, translate(err)
}

// ReturnUnit implements [api.Responders].
func (b backend) ReturnUnit(ctx context.Context, name string, r api.KeyRequest) (responder.RequestView, error) {
	v, err := b.n.ReturnUnit(ctx, "api:"+r.Key, name)
	return v, translate(err)
}

// Lend implements [api.Responders].
func (b backend) Lend(ctx context.Context, r api.LendRequest) (responder.PoolView, error) {
	p, err := b.n.Lend(ctx, "api:"+r.Key, r.Child, r.Units, r.UntilMS, r.Reason)
	return p, translate(err)
}

// ChangePool implements [api.Responders].
func (b backend) ChangePool(ctx context.Context, name string, r api.PoolRequest) (p responder.PoolView, err error) {
	switch r.Do {
	case api.PoolExtend:
		p, err = b.n.ExtendPool(ctx, "api:"+r.Key, name, r.UntilMS)
	case api.PoolHandBack:
		p, err = b.n.HandBack(ctx, "api:"+r.Key, name)
	case api.PoolTakeBack:
		p, err = b.n.TakeBack(ctx, name, r.Force, r.Reason)
	default:
		return p, fmt.Errorf("%w: do %.32q: want %s, %s or %s", api.ErrInvalid, r.Do, api.PoolExtend, api.PoolHandBack, api.PoolTakeBack)
	}
	return p, translate(err)
}
