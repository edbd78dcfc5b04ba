package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

var taskColumns = []column{
	{title: "ID", path: "id", short: true}, {title: "DUE", path: "due_ms"}, {title: "STATE", path: "state"}, {title: "CUSTODIAN", path: "custodian"},
	{title: "ORGAN", path: "brief.organ"}, {title: "TITLE", path: "brief.title"}, {title: "SITE", path: "site"},
	{title: "DISPATCHED", path: "brief.dispatched_at_ms", wide: true}, {title: "CONFLICTS", path: "conflicts", wide: true},
	{title: "STAND DOWN", path: "stand_down", wide: true}, {title: "RETURNS", path: "returns", wide: true},
	{title: "RULE", path: "brief.rule", wide: true}, {title: "EVENT", path: "brief.event", wide: true},
}

// taskVerb is a command that makes one kind of action.
type taskVerb struct {
	name, kind string
	short      string
	long       string
	// args are the flags that it takes besides --note and --key, required ones with
	// a bang.
	args    []string
	example string
}

var taskVerbs = []taskVerb{
	{name: "accept", kind: dispatch.ActionAccept, short: "Accept (受理) a task that is offered to this site", args: []string{"who"}},
	{name: "sign", kind: dispatch.ActionSign, short: "Sign (签收) for a task: this site is its custodian from then on", args: []string{"who"},
		long: "A task has one custodian. When two sites signed for it and neither saw the\nother, all sites name the same one, show the conflict, and tell the other to\nstand down."},
	{name: "dispose", kind: dispatch.ActionDispose, short: "Note that work (处置) on a task goes on", args: []string{"who!", "evidence"}, example: "--who 张三"},
	{name: "feedback", kind: dispatch.ActionFeedback, short: "Report back (反馈) that the work is done", args: []string{"who!", "evidence"}, example: "--who 张三 --evidence attachment:7 --note 已更换井盖"},
	{name: "verify", kind: dispatch.ActionVerify, short: "Verify (核查) the work: needs evidence, and somebody who did not handle it", args: []string{"who!", "evidence"}, example: "--who 李四"},
	{name: "close", kind: dispatch.ActionClose, short: "Close (结案) a verified task", args: []string{"who!", "evidence"}, example: "--who 李四"},
	{name: "evaluate", kind: dispatch.ActionEvaluate, short: "Evaluate (评价) a closed task", args: []string{"who!", "score!"}, example: "--who 王五 --score 5"},
	{name: "return", kind: dispatch.ActionReturn, short: "Return (退回) a task; the third time a site above must rule", args: []string{"who", "reason!"}, example: "--reason not_ours"},
	{name: "assign", kind: dispatch.ActionAssign, short: "Offer (派遣) a returned or unsigned task to a site or organ", args: []string{"to!", "organ"}, example: "--to 500101001 --organ 城管"},
	{name: "dispute", kind: dispatch.ActionDispute, short: "Dispute (争议) a task: it cannot be closed until a site above rules", args: []string{"who", "reason!"}, example: "--reason shared_duty"},
	{name: "rule", kind: dispatch.ActionRule, short: "Rule who has a disputed or returned task; it cannot be returned then", args: []string{"to!", "organ"}, example: "--to 500101001"},
	{name: "extend", kind: dispatch.ActionExtend, short: "Extend (延期) the time limit, twice at most", args: []string{"reason!", "limit!"}, example: "--reason materials --limit 4:hour"},
	{name: "suspend", kind: dispatch.ActionSuspend, short: "Suspend (挂起) a task: its clock stops", args: []string{"who", "reason!"}, example: "--reason weather"},
	{name: "resume", kind: dispatch.ActionResume, short: "Resume a suspended task", args: []string{"who"}},
	{name: "supervise", kind: dispatch.ActionSupervise, short: "Supervise (督办) a task: its custodian is reminded on record", args: []string{"who", "reason!"}, example: "--reason overdue"},
	{name: "escalate", kind: dispatch.ActionEscalate, short: "Offer (升级) a task to a site above; custody stays until it signs", args: []string{"to!", "reason!", "organ"}, example: "--to 500101 --reason no_means"},
	{name: "delegate", kind: dispatch.ActionDelegate, short: "Give (下派) a task to a site below", args: []string{"to!", "reason!", "organ", "limit"}, example: "--to 500101001 --reason nearer",
		long: "A site that may not hold this task gets one of its own, with the brief; its\noutcome comes back into this one."},
	{name: "override", kind: dispatch.ActionOverride, short: "Take a task from a site below, without an offer", args: []string{"who", "reason!"}, example: "--reason no_answer",
		long: "Works while the other site cannot be reached. After the heal every site shows\nthe conflict, and the other is told to stand down."},
	{name: "stand-down", kind: dispatch.ActionStandDown, short: "Confirm that this site, which lost custody, called its responders back", args: []string{"who"}},
	{name: "merge", kind: dispatch.ActionMerge, short: "Merge (合并) a task into another one", args: []string{"into!"}, example: "--into task:0190f1c2-…"},
	{name: "reopen", kind: dispatch.ActionReopen, short: "Reopen (重开) a task; its clock starts anew", args: []string{"who", "reason!"}, example: "--reason not_done"},
	{name: "void", kind: dispatch.ActionVoid, short: "Make a task void (作废)", args: []string{"reason!"}, example: "--reason mistake"},
}

func newTask(g *global) *cobra.Command {
	cmd := newList(g, "task", "tasks", taskColumns)
	cmd.Short = "List and show tasks, and take them through their life"
	cmd.Long = `A task is one organ's piece of an event's handling. Its life is: dispatched,
accepted, signed, disposing, fed_back, verified, closed, evaluated. Who signs for
it is its custodian; one site at a time is. Everything works while links are cut.
A refusal says why, and what this site may do instead.`
	list, _, err := cmd.Find([]string{"list"})
	if err == nil {
		cmd.RemoveCommand(list)
	}
	withTaskShow(g, cmd)
	cmd.AddCommand(newTaskList(g), newTaskStart(g))
	for _, v := range taskVerbs {
		cmd.AddCommand(newTaskVerb(g, v))
	}
	return cmd
}

func newTaskList(g *global) *cobra.Command {
	var q api.TaskQuery
	var site, custodian string
	var l listing
	var within duration
	cmd := &cobra.Command{
		Use: "list", Short: "List tasks by state, organ, custodian or time limit", Args: exactArgs(0),
		Long: `Without conditions, the newest come first; with one, those that are due next.
--overdue lists open tasks whose time has run out, --due-within those whose time
runs out in that time; both, either. A suspended task is never due.
States: ` + strings.Join(dispatch.States(), ", ") + `.`,
		Example: "  tiermesh task list --overdue\n  tiermesh task list --due-within 2h --organ 城管\n  tiermesh task list --state returned -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.Site, q.Custodian, q.DueWithin = tiers.SiteID(site), tiers.SiteID(custodian), time.Duration(within)
			return g.lists(cmd, &l, func(ctx context.Context, c *api.Client) error {
				items, err := pages(&l, pageMax, func(limit int, after string) ([]json.RawMessage, string, error) {
					q.Limit, q.After = limit, after
					page, err := c.ListTasks(ctx, q)
					return page.Items, page.Next, err
				})
				if err == nil {
					err = knownSite(ctx, c, q.Site, len(items))
				}
				if err != nil {
					return err
				}
				return l.end(cmd, g.print(cmd.OutOrStdout(), taskColumns, items))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&site, "site", "", "only the streams of this site")
	f.StringVar(&q.State, "state", "", "only tasks in this state")
	f.StringVar(&q.Organ, "organ", "", "only tasks of this organ")
	f.StringVar(&custodian, "custodian", "", "only tasks that this site has signed for")
	f.BoolVar(&q.Overdue, "overdue", false, "only open tasks whose time has run out")
	f.Var(&within, "due-within", "only open tasks whose time runs out within, such as 2h")
	l.flags(cmd)
	return cmd
}

func newTaskStart(g *global) *cobra.Command {
	var r api.StartTasksRequest
	var to string
	var limit limitFlag
	cmd := &cobra.Command{
		Use: "start EVENT", Short: "Dispatch (分拨) an event: by a response plan, or to one organ", Args: exactArgs(1),
		Long: `Fans an event out into tasks, all or none. The event is closed when all of its
tasks are; tiermesh event show lists them.`,
		Example: "  tiermesh task start event:0190f1c2-… --plan flood\n  tiermesh task start event:0190f1c2-… --organ 城管 --limit 4:hour --to 500101001",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.To, r.Limit = tiers.SiteID(to), dispatch.Limit(limit)
			if r.Key == "" {
				r.Key = uuid.NewString()
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				out, err := c.StartTasks(ctx, args[0], r)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
				}
				for _, id := range out.Tasks {
					fmt.Fprintln(cmd.OutOrStdout(), id)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Plan, "plan", "", "response plan; see tiermesh plan list")
	f.StringVar(&r.Organ, "organ", "", "organ, instead of a plan")
	f.Var(&limit, "limit", "its time limit, such as 2:urgent_hour, 4:hour or 3:day")
	f.StringVar(&r.Title, "title", "", "title; the event's when left out")
	f.StringVar(&to, "to", "", "site that gets the tasks; this node's when left out")
	f.StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	return cmd
}

// taskFlags are what the verbs read.
type taskFlags struct {
	action dispatch.Action
	limit  limitFlag
	to     string
	into   string
	key    string
}

func newTaskVerb(g *global, v taskVerb) *cobra.Command {
	var f taskFlags
	long := v.short + "."
	if v.long != "" {
		long += "\n" + v.long
	}
	if codes := dispatch.Reasons(v.kind); codes != nil {
		long += "\nReasons: " + strings.Join(codes, ", ") + "."
	}
	cmd := &cobra.Command{
		Use: v.name + " ID", Short: v.short, Args: exactArgs(1), Long: long,
		Example: strings.TrimRight("  tiermesh task "+v.name+" task:0190f1c2-… "+v.example, " "),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := f.action
			a.Kind, a.To, a.Task = v.kind, tiers.SiteID(f.to), tiers.DocID(f.into)
			if cmd.Flags().Changed("limit") {
				l := dispatch.Limit(f.limit)
				a.Limit = &l
			}
			if f.key == "" {
				f.key = uuid.NewString()
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.ActOnTask(ctx, args[0], f.key, a)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
				}
				return printTaskResult(cmd.OutOrStdout(), r)
			})
		},
	}
	f.add(cmd, v)
	return cmd
}

// add adds a verb's flags.
func (f *taskFlags) add(cmd *cobra.Command, v taskVerb) {
	flags := cmd.Flags()
	flags.StringVar(&f.action.Note, "note", "", "a remark for the record")
	flags.StringVar(&f.key, "key", "", "idempotency key; made up when left out")
	var wanted []string
	for _, arg := range v.args {
		name, required := strings.CutSuffix(arg, "!")
		switch name {
		case "who":
			flags.StringVar(&f.action.Who, name, "", "the person who does it")
		case "reason":
			flags.StringVar(&f.action.Reason, name, "", "one of "+strings.Join(dispatch.Reasons(v.kind), ", "))
		case "evidence":
			flags.StringArrayVar(&f.action.Evidence, name, nil, "reference to what shows it; may be repeated")
		case "score":
			flags.IntVar(&f.action.Score, name, 0, "1 (bad) to 5")
		case "to":
			flags.StringVar(&f.to, name, "", "site")
		case "organ":
			flags.StringVar(&f.action.Organ, name, "", "organ there; as before when left out")
		case "limit":
			flags.Var(&f.limit, name, "such as 2:urgent_hour, 4:hour or 3:day")
		case "into":
			flags.StringVar(&f.into, name, "", "the task that goes on")
		}
		if required {
			wanted = append(wanted, name)
		}
	}
	require(cmd, wanted...)
}

func printTaskResult(w io.Writer, r api.TaskResult) error {
	custodian, due := "none", "not counted"
	if r.Custodian != "" {
		custodian = string(r.Custodian)
	}
	if r.DueMS > 0 {
		due = localTime(r.DueMS)
	}
	_, err := fmt.Fprintf(w, "%s  %s  custodian %s  due %s\nnext: %s\n", r.ID, r.State, custodian, due, strings.Join(r.Next, ", "))
	return err
}

// limitFlag is a time limit flag.
type limitFlag dispatch.Limit

// String implements pflag.Value.
func (l *limitFlag) String() string {
	if l.Unit == "" {
		return ""
	}
	return fmt.Sprintf("%d:%s", l.Amount, l.Unit)
}

// Type implements pflag.Value.
func (*limitFlag) Type() string { return "limit" }

// Set implements pflag.Value.
func (l *limitFlag) Set(s string) error {
	amount, unit, _ := strings.Cut(s, ":")
	n, err := strconv.Atoi(amount)
	if err != nil {
		return fmt.Errorf("%q: want amount:unit such as 4:hour", s)
	}
	if err := (dispatch.Limit{Amount: n, Unit: unit}).Validate(); err != nil {
		return err
	}
	*l = limitFlag{Amount: n, Unit: unit}
	return nil
}
