package node_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

const township2 = tiers.SiteID("500101002")

// twoTownships is a mesh with a second township below the district.
func twoTownships(t *testing.T) *mesh {
	t.Helper()
	return newMeshWith(t, local.Config{Sites: []tiers.Site{{ID: township2, Tier: tiers.TierTownship, Name: "太白街道", Parent: district}}})
}

// bothAgree waits until all links are proven equal.
func (m *mesh) bothAgree() {
	m.t.Helper()
	m.wait("sites agree", func() bool {
		a, b := m.link(township2, district), m.link(district, township2)
		return m.agreed() && a.Equal && b.Equal && a.Digest == b.Digest
	})
}

// named reports something under a client's identifier.
func (m *mesh) named(site tiers.SiteID, id string, r event.Report) {
	m.t.Helper()
	if _, err := m.Node(site).Backend().Report(limited(m.t), api.ReportRequest{Key: "named " + string(site) + r.Title, ID: id, Report: r}); err != nil {
		m.t.Fatal(err)
	}
}

// TestNamesakesAreToldApart: two townships that are cut off take in two different
// reports under one identifier. No command acts on one of them by chance: the bare
// name is refused with both full names, and each of these works, everywhere.
func TestNamesakesAreToldApart(t *testing.T) {
	m := twoTownships(t)
	m.Isolate(township)
	m.named(township, uuid1, event.Report{Type: "01001", Title: "井盖", Priority: 3})
	m.named(township2, uuid1, event.Report{Type: "01001", Title: "路灯", Priority: 1})
	m.Heal()
	m.bothAgree()
	bare := tiers.NewDocID(event.Kind, uuid1)
	first, second := "500101001/routine/event:"+uuid1, "500101002/urgent/event:"+uuid1
	for _, site := range []tiers.SiteID{district, city} {
		b, ctx := m.Node(site).Backend(), limited(t)
		for what, do := range commandsOnEvents(m, site) {
			err := do(bare)
			if !errors.Is(err, node.ErrAmbiguous) || !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), second) {
				t.Errorf("%s: %s of the bare name: %v", site, what, err)
			}
			if err := do(tiers.DocID(first)); errors.Is(err, node.ErrAmbiguous) || errors.Is(err, api.ErrNotFound) || errors.Is(err, api.ErrInvalid) {
				t.Errorf("%s: %s of the full name: %v", site, what, err)
			}
		}
		if all, err := b.View(ctx, event.Kind, uuid1); err != nil || len(all) != 2 {
			t.Errorf("%s: %d views, %v", site, len(all), err)
		}
		list, err := b.List(ctx, api.ListQuery{Kind: event.Kind, Limit: 9})
		if text := fmt.Sprintf("%s", list.Items); err != nil || !strings.Contains(text, `"full_name":"`+first) || !strings.Contains(text, `"full_name":"`+second) {
			t.Errorf("%s lists %s, %v", site, text, err)
		}
		pairs, err := b.SuspectPairs(ctx, api.SuspectQuery{Events: 9})
		if err != nil || len(pairs.Pairs) != 1 || len(pairs.Pairs[0].Suspects) != 1 || !pairs.Pairs[0].Suspects[0].SameName {
			t.Errorf("%s suspects %+v, %v", site, pairs, err)
		}
		for full, title := range map[string]string{first: "井盖", second: "路灯"} {
			if one, err := b.View(ctx, event.Kind, full); err != nil || len(one) != 1 || !strings.Contains(string(one[0]), title) {
				t.Errorf("%s: %s: %s, %v", site, full, one, err)
			}
		}
	}
	_, v, err := m.Node(district).Event(tiers.DocID(second))
	if err != nil || len(v.Actions) != 0 || len(v.Attachments) != 0 || len(v.Corrected) != 0 {
		t.Errorf("what was done to its namesake stands in %+v, %v", v, err)
	}
	if alarms := strings.Join(m.Node(district).Alarms(), "\n"); !strings.Contains(alarms, first) || !strings.Contains(alarms, second) {
		t.Errorf("alarms of the site above both: %s", alarms)
	}
	if _, _, err := m.Node(township).Event(bare); err != nil {
		t.Errorf("a township that holds one: %v", err)
	}
}

// commandsOnEvents are those that take an event's name.
func commandsOnEvents(m *mesh, site tiers.SiteID) map[string]func(tiers.DocID) error {
	b, ctx, key := m.Node(site).Backend(), limited(m.t), "on events "+string(site)
	return map[string]func(tiers.DocID) error{
		"accept": func(id tiers.DocID) error {
			_, err := b.ActOnEvent(ctx, api.EventActionRequest{Key: key + "a" + string(id), Event: id, Action: event.Action{Kind: event.KindAccept}})
			return err
		},
		"correct": func(id tiers.DocID) error {
			_, err := b.CorrectEvent(ctx, api.CorrectRequest{Key: key + "c" + string(id), Event: id, Fields: map[string]string{"place": "王牌路"}})
			return err
		},
		"merge": func(id tiers.DocID) error {
			_, err := b.MergeEvents(ctx, api.MergeRequest{Key: key + "m" + string(id), Event: id, With: id})
			return err
		},
		"unmerge": func(id tiers.DocID) error {
			_, err := b.UnmergeEvents(ctx, api.MergeRequest{Key: key + "u" + string(id), Event: id, With: "event:none"})
			return err
		},
		"suspects":    func(id tiers.DocID) error { _, err := b.Suspects(ctx, id); return err },
		"attachments": func(id tiers.DocID) error { _, err := b.Attachments(ctx, id); return err },
		"timeline":    func(id tiers.DocID) error { _, err := b.Timeline(ctx, string(id)); return err },
		"explain":     func(id tiers.DocID) error { _, err := b.Explain(ctx, string(id)); return err },
		"attach": func(id tiers.DocID) error {
			a := event.Attachment{Name: "a.jpg", URL: "https://example.org/a.jpg", SHA256: strings.Repeat("a", 64), Bytes: 1, Type: "image/jpeg"}
			_, err := b.Attach(ctx, api.AttachRequest{Key: key + "t" + string(id), Event: id, Attachment: a, Who: "张三"})
			return err
		},
		"tasks": func(id tiers.DocID) error {
			_, err := b.StartTasks(ctx, api.StartTasksRequest{Key: key + "s" + string(id), Event: id, Organ: "市政", Limit: dispatch.Limit{Amount: 4, Unit: dispatch.UnitUrgentHour}})
			return err
		},
	}
}

// TestOneReportAtTwoTownships: an app reports to a township, which is cut off before it
// answers, and then to the next one. Wherever the two meet they are one event with both
// reporters; a command on the bare name acts on it, and the tasks of both are one.
func TestOneReportAtTwoTownships(t *testing.T) {
	m := twoTownships(t)
	m.publishRules()
	m.bothAgree()
	m.Isolate(township)
	r := event.Report{Type: "01001", Title: "井盖", Priority: 2, Reporter: "张三", Channel: "app"}
	m.named(township, uuid1, r)
	m.named(township2, uuid1, r)
	bare := tiers.NewDocID(event.Kind, uuid1)
	for _, site := range []tiers.SiteID{township, township2} {
		m.wait("a task", func() bool { _, v, err := m.Node(site).Event(bare); return err == nil && len(v.Tasks) == 1 })
	}
	m.Heal()
	m.wait("they are one", func() bool {
		for _, site := range []tiers.SiteID{district, city} {
			_, v, err := m.Node(site).Event(bare)
			if err != nil || len(v.Reporters) != 2 || len(v.OpenTasks()) != 1 {
				return false
			}
		}
		return true
	})
	m.bothAgree()
	for _, site := range []tiers.SiteID{district, city} {
		k, v, err := m.Node(site).Event(bare)
		if err != nil || k.Stream.Site != township || v.State == event.StateMerged || len(v.Merged) != 1 || v.Merged[0] != "500101002/urgent/"+bare ||
			v.Reporters[0].Site != township || v.Reporters[1].Site != township2 {
			t.Errorf("%s: %s %+v, %v", site, k, v, err)
		}
		_, d, err := m.Node(site).Event("500101002/urgent/" + bare)
		if err != nil || d.State != event.StateMerged || d.Into != "500101001/urgent/"+bare {
			t.Errorf("%s: %+v, %v", site, d, err)
		}
	}
	if r, err := m.Node(district).Backend().CorrectEvent(limited(t), api.CorrectRequest{Key: "c", Event: bare, Fields: map[string]string{"place": "王牌路"}}); err != nil || r.Stream != "500101001/urgent" {
		t.Errorf("a command on the bare name: %+v, %v", r, err)
	}
	// The township that holds the duplicate alone says where to go on.
	_, err := m.Node(township2).Backend().ActOnEvent(limited(t), api.EventActionRequest{Key: "v2", Event: bare, Action: event.Action{Kind: event.KindVoid, Note: "误报"}})
	if !errors.Is(err, api.ErrRejected) || !strings.Contains(err.Error(), "500101001/urgent/") {
		t.Errorf("on the duplicate: %v", err)
	}
	// Taken apart by a person, they stay two.
	if _, err := m.Node(district).Backend().UnmergeEvents(limited(t), api.MergeRequest{Key: "u", Event: "500101002/urgent/" + bare, Note: "两处"}); err != nil {
		t.Fatal(err)
	}
	m.report(3)
	m.bothAgree()
	if _, _, err := m.Node(city).Event(bare); !errors.Is(err, node.ErrAmbiguous) {
		t.Errorf("taken apart: %v", err)
	}
}
