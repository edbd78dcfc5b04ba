package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
)

func (b *backend) Alarms(context.Context) (api.AlarmList, error) {
	return api.AlarmList{Alarms: []api.Alarm{{ID: "4f0c", Text: "x"}}}, b.err
}

func (b *backend) Acknowledge(_ context.Context, a api.AlarmAck) (api.AlarmList, error) {
	b.acked = a
	return api.AlarmList{Alarms: []api.Alarm{{ID: "4f0c", Ack: &api.AckNote{Who: a.Who}}}}, b.err
}

// TestAlarmsAreOfTheNode: findings are shown and acknowledged at the node that is
// asked, whoever leads its site, and by somebody.
func TestAlarmsAreOfTheNode(t *testing.T) {
	b := &backend{leader: "2-x", upward: api.Upward{Retired: true, Instead: "500101"}}
	c, path := serve(t, b)
	if all, err := c.Alarms(limited(t)); err != nil || len(all.Alarms) != 1 || all.Alarms[0].ID != "4f0c" {
		t.Errorf("%+v, %v", all, err)
	}
	all, err := c.Acknowledge(limited(t), api.AlarmAck{IDs: []string{"4f"}, Who: " 张三 ", Note: " seen to "})
	if err != nil || b.acked.Who != "张三" || b.acked.Note != "seen to" || all.Alarms[0].Ack.Who != "张三" {
		t.Errorf("%+v, %+v, %v", b.acked, all, err)
	}
	for name, a := range map[string]api.AlarmAck{
		"nothing": {Who: "x"}, "nobody": {IDs: []string{"4f"}, Who: "  "}, "a long note": {IDs: []string{"4f"}, Who: "x", Note: strings.Repeat("x", 3000)},
		"many": {IDs: make([]string, 300), Who: "x"},
	} {
		if _, err := c.Acknowledge(limited(t), a); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, text := raw(t, path, "POST", "/v1/alarms:ack", `{"ids":["4f"],"who":"x","what":1}`); !strings.Contains(text, "what") {
		t.Errorf("an unknown field: %s", text)
	}
	now := time.Now()
	described(t, map[string]any{
		"Alarm": api.Alarm{Ack: &api.AckNote{}}, "AckNote": api.AckNote{Note: "x", At: now}, "AlarmList": api.AlarmList{}, "AlarmAck": api.AlarmAck{Note: "x"},
	})
}
