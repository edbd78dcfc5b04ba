package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

func (b *backend) IssueOrder(_ context.Context, r api.OrderRequest) (api.OrderResult, error) {
	return api.OrderResult{WriteResult: api.WriteResult{ID: tiers.DocID(r.Key)}, Targets: []tiers.SiteID{tiers.SiteID(r.To)}}, b.err
}

func (b *backend) StepOrder(_ context.Context, r api.OrderStepRequest) (api.OrderStepResult, error) {
	return api.OrderStepResult{State: r.Order + r.Key + r.Step.Kind}, b.err
}

func (b *backend) ListOrders(_ context.Context, q api.ListQuery) (api.OrdersPage, error) {
	return api.OrdersPage{Items: []api.OrderRow{}, Next: fmt.Sprint(q)}, b.err
}

func (b *backend) Order(_ context.Context, name string) (api.OrderDetail, error) {
	return api.OrderDetail{ID: tiers.DocID(name)}, b.err
}

func (b *backend) ListReceipts(_ context.Context, q api.ReceiptQuery) (api.ReceiptsPage, error) {
	return api.ReceiptsPage{Items: []api.TargetRow{}, Next: fmt.Sprint(q)}, b.err
}

func (b *backend) SwitchMode(_ context.Context, r api.ModeRequest) (api.ModeResult, error) {
	return api.ModeResult{Standing: command.Standing{Site: r.Area, Mode: r.Mode, Level: r.Level}}, b.err
}

func (b *backend) Mode(_ context.Context, site tiers.SiteID) (command.Standing, error) {
	return command.Standing{Site: site}, b.err
}

func (b *backend) ModeHistory(_ context.Context, site tiers.SiteID) (api.ModeHistory, error) {
	return api.ModeHistory{Switches: []command.Switch{{Area: site}}}, b.err
}

func (b *backend) Silence(_ context.Context, all bool) (api.SilenceReport, error) {
	return api.SilenceReport{Sites: map[bool]int{true: 2}[all]}, b.err
}

func (b *backend) SetSilence(_ context.Context, r api.SilenceRequest) (api.WriteResult, error) {
	return api.WriteResult{ID: r.Limit.Doc()}, b.err
}

// TestOrderClient: what the client asks reaches the backend, and its answer the
// client.
func TestOrderClient(t *testing.T) {
	b := &backend{}
	c, _ := serve(t, b)
	ctx := limited(t)
	for want, f := range map[string]func() (any, error){
		"k d": func() (any, error) {
			x, err := c.IssueOrder(ctx, api.OrderRequest{Key: "k", To: "d"})
			return fmt.Sprint(x.ID, " ", x.Targets[0]), err
		},
		"o.1k1ack": func() (any, error) {
			x, err := c.StepOrder(ctx, "o.1", "k1", api.OrderStep{Kind: "ack"})
			return x.State, err
		},
		"{ s 7 a}": func() (any, error) {
			x, err := c.ListOrders(ctx, api.ListQuery{Site: "s", Limit: 7, After: "a"})
			return x.Next, err
		},
		"order:o": func() (any, error) { x, err := c.Order(ctx, "order:o"); return x.ID, err },
		"{{ s 50 } issued true true}": func() (any, error) {
			x, err := c.ListReceipts(ctx, api.ReceiptQuery{ListQuery: api.ListQuery{Site: "s"}, State: "issued", Undelivered: true, Overdue: true})
			return x.Next, err
		},
		"d emergency 2": func() (any, error) {
			x, err := c.SwitchMode(ctx, api.ModeRequest{Key: "k", Area: "d", Mode: "emergency", Level: 2})
			return fmt.Sprint(x.Standing.Site, " ", x.Standing.Mode, " ", x.Standing.Level), err
		},
		"d": func() (any, error) { x, err := c.Mode(ctx, "d"); return x.Site, err },
		"e": func() (any, error) { x, err := c.ModeHistory(ctx, "e"); return x.Switches[0].Area, err },
		"2": func() (any, error) { x, err := c.Silence(ctx, true); return x.Sites, err },
		"0": func() (any, error) { x, err := c.Silence(ctx, false); return x.Sites, err },
		"silencelimit:d1": func() (any, error) {
			x, err := c.SetSilence(ctx, "k", command.Limit{Site: "d1"})
			return x.ID, err
		},
	} {
		if got, err := f(); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
	b.err = fmt.Errorf("%w: executed", api.ErrRejected)
	if _, err := c.StepOrder(ctx, "o", "k", api.OrderStep{Kind: "ack"}); !errors.Is(err, api.ErrRejected) {
		t.Errorf("a rejection: %v", err)
	}
}

// TestOrderRequests: bad requests are answered with what is wrong.
func TestOrderRequests(t *testing.T) {
	_, path := serve(t, &backend{})
	for _, row := range []struct{ method, target, body, want string }{
		{"POST", "/v1/orders", `{"to":"d"}`, "makes a retry safe"},
		{"POST", "/v1/orders", `{"key":"k","text":"` + strings.Repeat("x", 1<<20) + `"}`, "1048576 bytes"},
		{"POST", "/v1/orders/o/steps", `{"key":"k","step":{"by":"c"}}`, "unknown field"},
		{"POST", "/v1/orders/o/steps", `{"step":{}}`, "makes a retry safe"},
		{"GET", "/v1/orders?state=x", "", `unknown parameter \"state\"`},
		{"GET", "/v1/receipts?undelivered=perhaps", "", "true or false"},
		{"GET", "/v1/receipts?limit=0", "", "want 1 to 1000"},
		{"POST", "/v1/mode", `{"mode":"emergency"}`, "makes a retry safe"},
		{"GET", "/v1/mode?site=a%20b", "", `site \"a b\"`},
		{"GET", "/v1/mode/history?area=x", "", "unknown parameter"},
		{"GET", "/v1/silence?all=perhaps", "", "true or false"},
		{"POST", "/v1/silence", `{"limit":{}}`, "makes a retry safe"},
		{"POST", "/v1/silence", `{"key":"k","limit":{"tier":"village"}}`, "village"},
	} {
		if status, body := raw(t, path, row.method, row.target, row.body); status != http.StatusBadRequest || !strings.Contains(body, row.want) {
			t.Errorf("%s %s: %d %s", row.method, row.target, status, body)
		}
	}
}

// TestOrderSchemas: the document describes every field, and no other.
func TestOrderSchemas(t *testing.T) {
	brief := command.Brief{Text: "x", IssuerTier: 1, Who: "x", DeadlineMS: 1}
	receipt := command.ReceiptView{
		Times: command.Times{StoredMS: 1, DeliveredMS: 1, AcknowledgedMS: 1, ExecutedMS: 1, RefusedMS: 1, CancelledMS: 1, RemindedMS: 1},
		Late:  true, CancelledLate: true, Reports: 1, Faults: command.Faults{Malformed: 1, Pending: 1, Refused: 1},
	}
	change := command.Switch{Tier: 1, Level: 1, Hours: "x", Who: "x"}
	described(t, map[string]any{
		"OrderRequest": api.OrderRequest{Text: "x", Who: "x", DeadlineMS: 1}, "OrderResult": api.OrderResult{WriteResult: api.WriteResult{Waits: &api.Waits{}}}, "OrderStepRequest": api.OrderStepRequest{},
		"OrderStep": api.OrderStep{Who: "x", Note: "x", Reason: "x", Evidence: []string{"x"}}, "OrderStepResult": api.OrderStepResult{WriteResult: api.WriteResult{Waits: &api.Waits{}}},
		"OrderCounts": api.OrderCounts{}, "OrderRow": api.OrderRow{CancelledMS: 1}, "OrdersPage": api.OrdersPage{Next: "x"}, "OrderBrief": brief,
		"OrderStepMade": command.Step{Tier: 1, Who: "x", Note: "x", Reason: "x", Evidence: []string{"x"}, Of: 1, Count: 1},
		"OrderTarget":   api.TargetRow{ReceiptView: receipt, Name: "x", AgeMS: 1, Overdue: true, Change: "x", Hop: "x", HopContactMS: 1},
		"ReceiptsPage":  api.ReceiptsPage{Next: "x"}, "OrderDetail": api.OrderDetail{CancelledMS: 1},
		"ModeRequest": api.ModeRequest{Area: "x", Level: 1, Hours: "x", Who: "x"}, "Switch": change, "Standing": command.Standing{Level: 1, Hours: "x"},
		"ModeResult": api.ModeResult{WriteResult: api.WriteResult{Waits: &api.Waits{}}}, "ModeHistory": api.ModeHistory{}, "Contact": command.Contact{AtMS: 1, Live: true, How: "x"},
		"SilentStale": api.SilentStale{NewestMS: map[string]int64{"x": 1}}, "SilentSite": api.SilentSite{Behind: "x", SilentMS: 1, Alert: "x"},
		"SilenceLimit": command.Limit{Site: "x", Tier: 1, Event: 1, By: "x"}, "SilenceReport": api.SilenceReport{}, "SilenceRequest": api.SilenceRequest{},
	})
}
