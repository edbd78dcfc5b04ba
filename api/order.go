package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// Commands is what a node offers about orders, the mode and silence.
type Commands interface {
	// IssueOrder gives an order to sites below.
	IssueOrder(ctx context.Context, r OrderRequest) (OrderResult, error)
	// StepOrder makes a step of an order in the site's name.
	StepOrder(ctx context.Context, r OrderStepRequest) (OrderStepResult, error)
	// ListOrders returns a page of orders as they were issued, the newest first.
	ListOrders(ctx context.Context, q ListQuery) (OrdersPage, error)
	// Order tells how far an order is at each of its targets.
	Order(ctx context.Context, name string) (OrderDetail, error)
	// ListReceipts returns a page of orders at single targets.
	ListReceipts(ctx context.Context, q ReceiptQuery) (ReceiptsPage, error)
	Modes
}

// OrderRequest gives an order.
type OrderRequest struct {
	// Key makes a retry safe, and names the order.
	Key string `json:"key"`
	// To is a site, tier:township, area:SITE, or a list of these with commas.
	To    string `json:"to"`
	Title string `json:"title"`
	Text  string `json:"text,omitempty"`
	Who   string `json:"who,omitempty"`
	// DeadlineMS is in Unix milliseconds; 0 for none.
	DeadlineMS int64 `json:"deadline_ms,omitempty"`
}

// OrderResult is an order that was given.
type OrderResult struct {
	WriteResult
	Targets []tiers.SiteID `json:"targets"`
}

// OrderStepRequest makes a step of an order.
type OrderStepRequest struct {
	Key string `json:"key"`
	// Order is the one in the path, or one of its receipts.
	Order string `json:"-"`
	// Step is what is done: ack, execute, refuse, report, cancel or remind; the node
	// sets its time and site.
	Step OrderStep `json:"step"`
}

// OrderStep is what people say of a step.
type OrderStep struct {
	Kind     string   `json:"kind"`
	Who      string   `json:"who,omitempty"`
	Note     string   `json:"note,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
}

// OrderStepResult is where an order stands here after a step.
type OrderStepResult struct {
	WriteResult
	State string `json:"state"`
	// Next are the steps that this site may make now.
	Next []string `json:"next"`
}

// OrderCounts say how many of an order's targets are how far, as this site knows;
// who executed it has acknowledged it, and who acknowledged it has it.
type OrderCounts struct {
	Targets      int `json:"targets"`
	Sent         int `json:"sent"`
	Delivered    int `json:"delivered"`
	Acknowledged int `json:"acknowledged"`
	Executed     int `json:"executed"`
	Refused      int `json:"refused"`
	Cancelled    int `json:"cancelled"`
}

// OrderRow is an order in a list.
type OrderRow struct {
	ID          tiers.DocID   `json:"id"`
	Site        tiers.SiteID  `json:"site"`
	Brief       command.Brief `json:"brief"`
	CancelledMS int64         `json:"cancelled_ms,omitempty"`
	Counts      OrderCounts   `json:"counts"`
}

// OrdersPage is a page of orders.
type OrdersPage struct {
	Items []OrderRow `json:"items"`
	Next  string     `json:"next,omitempty"`
}

// ReceiptQuery selects orders at single targets; conditions that are empty match
// everything.
type ReceiptQuery struct {
	// ListQuery has the page, and the target as its site; its Kind is not used.
	ListQuery
	State string
	// Undelivered selects what is not known to be delivered, the oldest first; Overdue
	// what is open after its deadline.
	Undelivered, Overdue bool
}

// TargetRow is an order at one target.
type TargetRow struct {
	command.ReceiptView
	Name string `json:"name,omitempty"`
	// AgeMS is for how long it has been on its way, while it is not delivered.
	AgeMS int64 `json:"age_ms,omitempty"`
	// Overdue says that it is open after its deadline.
	Overdue bool `json:"overdue,omitempty"`
	// Change says what the topology has made of the target since the order: added,
	// retired, moved. An added one has not been given it.
	Change string `json:"change,omitempty"`
	// Hop is the site by which the target is reached from here, and HopContactMS when
	// that was last heard of.
	Hop          tiers.SiteID `json:"hop,omitempty"`
	HopContactMS int64        `json:"hop_contact_ms,omitempty"`
}

// ReceiptsPage is a page of orders at single targets.
type ReceiptsPage struct {
	Items []TargetRow `json:"items"`
	Next  string      `json:"next,omitempty"`
}

// OrderDetail tells how far an order is at each target that this site knows of: all,
// where it was issued and above; at a site between, those below it.
type OrderDetail struct {
	ID          tiers.DocID    `json:"id"`
	Brief       command.Brief  `json:"brief"`
	CancelledMS int64          `json:"cancelled_ms,omitempty"`
	Counts      OrderCounts    `json:"counts"`
	Steps       []command.Step `json:"steps"`
	Targets     []TargetRow    `json:"targets"`
}

func (s *Server) orderRoutes(mux *http.ServeMux) {
	mux.Handle("POST /v1/orders", s.handle(func(r *http.Request) (any, error) {
		var req OrderRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		return s.cfg.Backend.IssueOrder(r.Context(), req)
	}))
	mux.Handle("POST /v1/orders/{name}/steps", s.handle(func(r *http.Request) (any, error) {
		var req OrderStepRequest
		if err := keyed(r, &req, &req.Key); err != nil {
			return nil, err
		}
		req.Order = r.PathValue("name")
		return s.cfg.Backend.StepOrder(r.Context(), req)
	}))
	mux.Handle("GET /v1/orders", s.handle(func(r *http.Request) (any, error) {
		q, err := receiptQuery(r, "limit", "site", "after")
		if err != nil {
			return nil, err
		}
		return s.cfg.Backend.ListOrders(r.Context(), q.ListQuery)
	}))
	mux.Handle("GET /v1/orders/{name}", s.handle(func(r *http.Request) (any, error) {
		return s.cfg.Backend.Order(r.Context(), r.PathValue("name"))
	}))
	mux.Handle("GET /v1/receipts", s.handle(func(r *http.Request) (any, error) {
		q, err := receiptQuery(r, "limit", "site", "after", "state", "undelivered", "overdue")
		if err != nil {
			return nil, err
		}
		return s.cfg.Backend.ListReceipts(r.Context(), q)
	}))
}

// receiptQuery reads the parameters of a list, of which only some are allowed.
func receiptQuery(r *http.Request, allowed ...string) (q ReceiptQuery, err error) {
	q.Limit = limitDefault
	for name, values := range r.URL.Query() {
		v := values[0]
		if name != "read" && !strings.Contains(" "+strings.Join(allowed, " ")+" ", " "+name+" ") {
			return q, fmt.Errorf("%w: unknown parameter %q: want one of %s", ErrInvalid, name, strings.Join(allowed, ", "))
		}
		switch name {
		case "limit", "site", "after", "read":
			if err := page(&q.ListQuery, name, v); err != nil {
				return q, err
			}
		case "state":
			q.State = v
		case "undelivered":
			q.Undelivered, err = strconv.ParseBool(v)
		case "overdue":
			q.Overdue, err = strconv.ParseBool(v)
		}
		if err != nil {
			return q, fmt.Errorf("%w: %s %q: want true or false", ErrInvalid, name, v)
		}
	}
	return q, nil
}
