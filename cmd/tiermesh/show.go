package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// hybridAt is a hybrid time in a view. Inside a JSON string its quotes would be
// escaped.
var hybridAt = regexp.MustCompile(`([{,])"at":(\d{16,19})`)

// withTimes adds to each hybrid time of a view the time that it means, as RFC 3339.
func withTimes(view json.RawMessage) json.RawMessage {
	return hybridAt.ReplaceAllFunc(view, func(m []byte) []byte {
		var at crdt.HybridTime
		if err := json.Unmarshal(hybridAt.FindSubmatch(m)[2], &at); err != nil {
			return m
		}
		return fmt.Appendf(slices.Clip(m), `,"at_time":%q`, time.UnixMilli(at.Millis()).UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	})
}

// printJSON writes one JSON document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// shown is what a show command found: with -o json it is one document.
type shown struct {
	Items []json.RawMessage `json:"items"`
	Tasks []json.RawMessage `json:"tasks,omitempty"`
}

// withTasks makes the show command of events readable, with their tasks.
func withTasks(g *global, events *cobra.Command) {
	show, _, err := events.Find([]string{"show"})
	if err != nil {
		return
	}
	show.Short = "Show an event, what was done with it, and its tasks"
	show.Long = "Shows an event as text, or with -o json as one JSON document: items are the event,\nor each that has the name, tasks those of all of them."
	show.Example = "  tiermesh event show event:0190f1c2-…\n  tiermesh event show 3f2a1b9c\n  tiermesh event show 3f2a1b9c -o json"
	show.RunE = func(cmd *cobra.Command, args []string) error {
		return g.client(cmd, func(ctx context.Context, c *api.Client) error {
			found, err := eventAndTasks(ctx, c, args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if g.output == "json" {
				return printJSON(w, found)
			}
			for _, it := range found.Items {
				if err := printEventView(w, it, found.Tasks); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// eventAndTasks reads an event, its tasks, and those that were delegated from them.
func eventAndTasks(ctx context.Context, c *api.Client, name string) (shown, error) {
	var out shown
	items, err := c.View(ctx, "events", strings.TrimPrefix(name, "event:"))
	if err != nil {
		return out, err
	}
	var tasks []tiers.DocID
	for _, it := range items {
		var parts struct {
			Tasks []tiers.DocID `json:"tasks"`
		}
		if err := json.Unmarshal(it, &parts); err != nil {
			return out, fmt.Errorf("view does not decode: %w", err)
		}
		out.Items = append(out.Items, withTimes(it))
		tasks = append(tasks, parts.Tasks...)
	}
	for i := 0; i < len(tasks); i++ {
		if slices.Contains(tasks[:i], tasks[i]) {
			continue
		}
		items, err := c.View(ctx, "tasks", tasks[i].Name())
		if exitCode(err) == exitNotFound {
			continue // the task's record has not come yet
		}
		if err != nil {
			return out, err
		}
		for _, it := range items {
			var task struct {
				Children []tiers.DocID `json:"children"`
			}
			if err := json.Unmarshal(it, &task); err != nil {
				return out, fmt.Errorf("view does not decode: %w", err)
			}
			out.Tasks, tasks = append(out.Tasks, withTimes(it)), append(tasks, task.Children...)
		}
	}
	return out, nil
}

// withTaskShow makes the show command of tasks readable.
func withTaskShow(g *global, tasks *cobra.Command) {
	show, _, err := tasks.Find([]string{"show"})
	if err != nil {
		return
	}
	asJSON := show.RunE
	show.Short = "Show a task and what was done with it"
	show.Example = "  tiermesh task show task:0190f1c2-…\n  tiermesh task show 3f2a1b9c -o json"
	show.RunE = func(cmd *cobra.Command, args []string) error {
		if g.output == "json" {
			return asJSON(cmd, args)
		}
		return g.client(cmd, func(ctx context.Context, c *api.Client) error {
			items, err := c.View(ctx, "tasks", strings.TrimPrefix(args[0], "task:"))
			if err != nil {
				return err
			}
			for _, it := range items {
				if err := printTaskView(cmd.OutOrStdout(), it); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// facts are labelled lines; those without a value are left out.
type facts [][2]string

func (f *facts) add(label string, parts ...string) {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	if len(parts) > 0 {
		*f = append(*f, [2]string{label, strings.Join(strings.Fields(strings.Join(parts, "  ")), " ")})
	}
}

func (f *facts) addf(label, format string, v any, zero bool) {
	if !zero {
		f.add(label, fmt.Sprintf(format, v))
	}
}

func (f *facts) print(w io.Writer) error {
	for _, x := range *f {
		if _, err := say(w, "  %-12s %s\n", x[0], x[1]); err != nil {
			return err
		}
	}
	return nil
}

// moment is a time with its offset; empty for none.
func moment(ms int64) string {
	if ms == 0 {
		return ""
	}
	return localTime(ms)
}

// section writes a titled table, if it has rows.
func section(w io.Writer, title string, header []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := say(w, "%s:\n", title); err != nil {
		return err
	}
	for i := range rows {
		for j, c := range rows[i] {
			if rows[i][j] = strings.Join(strings.Fields(c), " "); c == "" {
				rows[i][j] = "-"
			}
		}
	}
	return table(w, header, rows)
}

func named(label, value string) string {
	if value == "" {
		return ""
	}
	return label + " " + value
}

// printEventView writes an event for people to read.
func printEventView(w io.Writer, raw json.RawMessage, tasks []json.RawMessage) error {
	var v event.View
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("view does not decode: %w", err)
	}
	r := v.Report
	if _, err := say(w, "%s  %s  priority %d  %s\n", v.ID, v.State, r.Priority, v.Stream); err != nil {
		return err
	}
	var f facts
	f.add("title", r.Title)
	f.add("type", r.Type)
	f.add("place", r.Place, where(r), named("grid", r.Grid))
	f.add("reported", moment(r.ReportedAtMS), named("by", r.Reporter), named("over", r.Channel), named("source key", r.SourceKey))
	f.add("text", r.Text)
	f.addf("was", "priority %d when it was reported", v.ReportedPriority, v.ReportedPriority == 0)
	f.add("duplicate of", string(v.Into))
	for _, d := range v.Merged {
		f.add("duplicate", string(d))
	}
	f.add("handled by", strings.Join(v.Handlers, ", "))
	f.add("evidence", strings.Join(v.Evidence, ", "))
	f.addf("evaluated", "%d of 5", v.Score, v.Score == 0)
	f.add("doubt", r.Doubt)
	addDoubts(&f, v.Malformed, v.Pending, v.Refused)
	if err := f.print(w); err != nil {
		return err
	}
	return printEventParts(w, v, tasks)
}

func where(r event.Report) string {
	if r.Lat == nil || r.Lon == nil {
		return ""
	}
	return fmt.Sprintf("(%g, %g)", *r.Lat, *r.Lon)
}

func addDoubts(f *facts, malformed, pending, refused int) {
	f.addf("doubt", "%d of its actions cannot be read", malformed, malformed == 0)
	f.addf("doubt", "%d of its records wait for others that have not come", pending, pending == 0)
	f.addf("doubt", "%d of its records were refused", refused, refused == 0)
}

// printEventParts writes what an event has several of.
func printEventParts(w io.Writer, v event.View, tasks []json.RawMessage) error {
	var reporters, corrected, actions, attached, parts [][]string
	for _, r := range v.Reporters {
		reporters = append(reporters, []string{moment(r.ReportedAtMS), string(r.Site), r.Reporter, r.Channel, r.Title})
	}
	for _, c := range v.Corrected {
		corrected = append(corrected, []string{moment(c.AtMS), string(c.Site), c.Field, c.Was, c.Value})
	}
	for _, a := range v.Actions {
		actions = append(actions, []string{moment(a.At.Millis()), string(a.By), a.Who, a.Kind, eventActionWords(a)})
	}
	for _, a := range v.Attachments {
		attached = append(attached, []string{a.ID, a.Name, a.Type, fmt.Sprint(a.Bytes), a.URL})
	}
	for _, raw := range tasks {
		var t dispatch.TaskView
		if err := json.Unmarshal(raw, &t); err != nil {
			return fmt.Errorf("view does not decode: %w", err)
		}
		if t.Brief.Event.Local() == v.ID {
			parts = append(parts, []string{string(t.ID), t.State, t.Brief.Organ, string(t.Custodian), moment(t.DueMS)})
		}
	}
	for _, s := range []struct {
		title  string
		header []string
		rows   [][]string
	}{
		{"Reporters", []string{"TIME", "SITE", "REPORTER", "CHANNEL", "TITLE"}, reporters},
		{"Corrections", []string{"TIME", "SITE", "FIELD", "WAS", "NOW"}, corrected},
		{"Conflicts, until somebody corrects the field", []string{"TIME", "SITE", "FIELD", "VALUE"}, conflictRows(v.Conflicts)},
		{"Actions", []string{"TIME", "SITE", "WHO", "DID", "WHAT"}, actions},
		{"Tasks", []string{"ID", "STATE", "ORGAN", "CUSTODIAN", "DUE"}, parts},
		{"Attachments", []string{"ID", "NAME", "TYPE", "BYTES", "URL"}, attached},
	} {
		if err := section(w, s.title, s.header, s.rows); err != nil {
			return err
		}
	}
	return nil
}

func conflictRows(all []crdt.Conflict) (rows [][]string) {
	for _, c := range all {
		for _, v := range c.Values {
			rows = append(rows, []string{moment(v.AtMS), string(v.Site), c.Field, fmt.Sprint(v.Value)})
		}
	}
	return rows
}

// eventActionWords says what an action on an event is about.
func eventActionWords(a event.Action) string {
	var f facts
	f.add("", string(a.Task), a.Outcome, named("to", a.Organ), named("in mode", a.Mode))
	if a.Other != nil {
		f.add("", "with "+string(a.Other.Event))
	}
	if a.Attachment != nil {
		f.add("", a.Attachment.Name)
	}
	f.addf("", "priority %d", a.Priority, a.Priority == 0)
	f.addf("", "score %d", a.Score, a.Score == 0)
	f.add("", named("evidence", strings.Join(a.Evidence, ", ")))
	f.add("", a.Note)
	return f.line()
}

// line is all values in one.
func (f *facts) line() string {
	var out []string
	for _, x := range *f {
		out = append(out, x[1])
	}
	return strings.Join(out, "; ")
}

// printTaskView writes a task for people to read.
func printTaskView(w io.Writer, raw json.RawMessage) error {
	var v dispatch.TaskView
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("view does not decode: %w", err)
	}
	b := v.Brief
	if _, err := say(w, "%s  %s  priority %d  %s\n", v.ID, v.State, b.Priority, v.Stream); err != nil {
		return err
	}
	var f facts
	f.add("title", b.Title)
	f.add("event", string(b.Event), b.Stream)
	f.add("type", b.Type)
	f.add("place", b.Place)
	f.add("organ", b.Organ, named("as", b.Role), named("step", b.Step))
	f.add("dispatched", moment(b.DispatchedAtMS), named("by", string(b.By)), named("rule", b.Rule), named("plan", b.Plan), named("in mode", b.Mode))
	f.add("unit", b.Unit)
	f.add("custodian", string(v.Custodian))
	if v.Offer != nil {
		f.add("offered to", string(v.Offer.To), v.Offer.Organ)
	}
	f.add("due", moment(v.DueMS), fmt.Sprintf("limit %d:%s", b.Limit.Amount, b.Limit.Unit))
	f.add("done", moment(v.DoneMS))
	f.add("merged into", string(v.Into))
	f.add("from task", string(b.Parent))
	for _, c := range v.Children {
		f.add("delegated", string(c))
	}
	f.add("handled by", strings.Join(v.Handlers, ", "))
	f.add("evidence", strings.Join(v.Evidence, ", "))
	for _, s := range v.StandDown {
		f.add("stand down", string(s.Site))
	}
	addDoubts(&f, v.Malformed, v.Pending, v.Refused)
	if err := f.print(w); err != nil {
		return err
	}
	var actions [][]string
	for _, a := range v.Actions {
		actions = append(actions, []string{moment(a.At.Millis()), string(a.By), a.Who, a.Kind, taskActionWords(a)})
	}
	if err := section(w, "Conflicts", []string{"TIME", "SITE", "FIELD", "VALUE"}, conflictRows(v.Conflicts)); err != nil {
		return err
	}
	return section(w, "Actions", []string{"TIME", "SITE", "WHO", "DID", "WHAT"}, actions)
}

// taskActionWords says what an action on a task is about.
func taskActionWords(a dispatch.Step) string {
	var f facts
	f.add("", named("to", string(a.To)), a.Organ, string(a.Task), a.Outcome)
	f.add("", a.Reason)
	if a.Limit != nil {
		f.add("", fmt.Sprintf("%d:%s more", a.Limit.Amount, a.Limit.Unit))
	}
	f.addf("", "score %d", a.Score, a.Score == 0)
	f.add("", named("evidence", strings.Join(a.Evidence, ", ")))
	f.add("", a.Note)
	f.add("", named("without effect:", a.Overruled))
	return f.line()
}
