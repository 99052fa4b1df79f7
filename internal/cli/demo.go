package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

const (
	demoEnv    = "PREEMPT_DEMO_ADDR"
	demoLimit  = 10 * time.Second // for an answer
	demoAnswer = 1 << 20          // bytes
)

// demoFlags are the flags of demo.
type demoFlags struct {
	address, on string
	lasts       time.Duration
}

func (a *app) demoCommand() *cobra.Command {
	f := &demoFlags{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Turn the knobs of a running demo: its load, its alarm, its worker, its vCenter",
		Long: "Turn the knobs of a demo that runs on this machine, standalone --simulate: raise its alarm, load its clusters, kill its\n" +
			"worker, cut its vCenter off. It touches nothing but the demo.\n\n" + demoStatus,
		Example: "  preemptctl demo status\n  preemptctl demo load 95\n  preemptctl demo load auto",
	}
	cmd.PersistentFlags().StringVar(&f.address, "demo", "", fmt.Sprintf("address of the demo, as it prints it (environment %s; default 127.0.0.1:%d)", demoEnv, demoapi.DefaultPort))
	return group(cmd, a.demoStatusCommand(f), a.demoAlarmCommand(f), a.demoLoadCommand(f), a.demoWorkerCommand(f), a.demoVCenterCommand(f))
}

var demoStatus = exitCodes(", also when no demo runs", "the demo has no such cluster", "it cannot be done now")

func (a *app) demoStatusCommand(f *demoFlags) *cobra.Command {
	return &cobra.Command{
		Use: "status", Args: noArgs,
		Short:   "Show how the demo stands",
		Long:    "Show how the demo stands: load, usage and alarm of each cluster, its worker and its vCenter.\n\n" + demoStatus,
		Example: "  preemptctl demo status\n  preemptctl demo status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.order(cmd.Context(), f, demoapi.Order{Knob: demoapi.KnobStatus})
		},
	}
}

func (a *app) demoAlarmCommand(f *demoFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alarm red|yellow|green",
		Short: "Raise the demo's alarm, or let the usage decide again",
		Long: "Raise the demo's alarm on a cluster to red or yellow, whatever its usage is. It keeps that colour until it is set to\n" +
			"green: from then on the usage decides again. A round chooses VMs only while the usage is above the policy's target.\n\n" + demoStatus,
		Example:   "  preemptctl demo alarm red --on cluster-a\n  preemptctl demo alarm green --on cluster-a",
		ValidArgs: []string{"red", "yellow", "green"},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(c.ValidArgs, strings.ToLower(args[0])) {
				return usagef("%s takes one colour: red, yellow or green", c.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.order(cmd.Context(), f, demoapi.Order{Knob: demoapi.KnobAlarm, Colour: strings.ToLower(args[0]), On: f.on})
		},
	}
	f.onFlag(cmd)
	return cmd
}

func (a *app) demoLoadCommand(f *demoFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "load PERCENT|auto",
		Short: "Set what the VMs of a cluster of the demo ask for",
		Long: "Set how much of its CPU the VMs of a cluster ask for, in percent with all of them on, and keep it there. With auto the\n" +
			"simulated day decides again. VMs that are off ask for nothing, so the cluster's usage is lower while some are.\n\n" + demoStatus,
		Example:   "  preemptctl demo load 95 --on cluster-a\n  preemptctl demo load auto --on cluster-a",
		ValidArgs: []string{described("auto", "the simulated day decides again"), described("40", "calm"), described("70", "busy"), described("95", "the alarm turns red")},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("%s takes one load: a percentage, or auto", c.CommandPath())
			}
			_, err := demoLoad(args[0])
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			percent, err := demoLoad(args[0])
			if err != nil {
				return err
			}
			return a.order(cmd.Context(), f, demoapi.Order{Knob: demoapi.KnobLoad, Percent: percent, On: f.on})
		},
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) { // a load below 0 looks like a flag
			if load := unknown.GetSpecifiedShortnames(); load != "" && load[0] >= '0' && load[0] <= '9' {
				_, err = demoLoad("-" + load)
				return err
			}
		}
		return flagError(c, err)
	})
	f.onFlag(cmd)
	return cmd
}

// demoLoad reads a load in percent; 0 is auto.
func demoLoad(text string) (int, error) {
	if text == "auto" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || n < demoapi.LeastLoad || n > demoapi.MostLoad {
		return 0, usagef("%q is no load: give %d to %d percent, or auto", text, demoapi.LeastLoad, demoapi.MostLoad)
	}
	return n, nil
}

func (a *app) demoWorkerCommand(f *demoFlags) *cobra.Command {
	kill := &cobra.Command{
		Use: "kill", Args: noArgs,
		Short: "Kill the demo's worker; another one starts after some seconds",
		Long: "Kill the demo's worker, and start another one after some seconds. The worker is a part of the demo's process, which goes\n" +
			"on: it is cut off from Temporal and vCenter in the middle of its work, so that it can tell nobody, as a killed process.\n\n" + demoStatus,
		Example: "  preemptctl demo worker kill --for 1s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.order(cmd.Context(), f, demoapi.Order{Knob: demoapi.KnobKill, For: clock.Duration(f.lasts)})
		},
	}
	f.forFlag(kill, "until another one starts, 1s to 10m", "5s")
	return group(&cobra.Command{
		Use: "worker", Short: "Kill the demo's worker", Long: "Kill the demo's worker.\n\n" + demoStatus,
		Example: "  preemptctl demo worker kill --for 1s",
	}, kill)
}

func (a *app) demoVCenterCommand(f *demoFlags) *cobra.Command {
	cut := &cobra.Command{
		Use: "cut", Args: noArgs,
		Short: "Cut the demo's vCenter off: it resets every connection",
		Long: "Cut the demo's vCenter off: it resets every connection until vcenter back, or for a time. Its VMs and its alarm live on.\n\n" +
			demoStatus,
		Example: "  preemptctl demo vcenter cut --for 1s\n  preemptctl demo vcenter cut && preemptctl demo vcenter back",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.order(cmd.Context(), f, demoapi.Order{Knob: demoapi.KnobCut, For: clock.Duration(f.lasts)})
		},
	}
	f.forFlag(cut, "until it comes back by itself, 1s to 10m", "it does not")
	back := &cobra.Command{
		Use: "back", Args: noArgs,
		Short:   "Let the demo's vCenter answer again",
		Long:    "Let the demo's vCenter answer again, before its time is over.\n\n" + demoStatus,
		Example: "  preemptctl demo vcenter back  # exit code 4 where it is not cut off",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.order(cmd.Context(), f, demoapi.Order{Knob: demoapi.KnobBack})
		},
	}
	return group(&cobra.Command{
		Use: "vcenter", Short: "Cut the demo's vCenter off, and let it come back", Long: "Cut the demo's vCenter off, and let it come back.\n\n" + demoStatus,
		Example: "  preemptctl demo vcenter cut --for 1s",
	}, cut, back)
}

func (f *demoFlags) onFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.on, "on", "", "the cluster, "+strings.Join(demoapi.ClusterNames(), " or ")+" (default "+demoapi.ClusterNames()[0]+")")
	_ = cmd.RegisterFlagCompletionFunc("on", cobra.FixedCompletions(demoapi.ClusterNames(), cobra.ShellCompDirectiveNoFileComp))
}

func (f *demoFlags) forFlag(cmd *cobra.Command, what, without string) {
	cmd.Flags().DurationVar(&f.lasts, "for", 0, "how long "+what+" (default: "+without+")")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("for") && (f.lasts < demoapi.LeastFor || f.lasts > demoapi.MostFor) {
			return usagef("--for %s is not within %s to %s", f.lasts, span(demoapi.LeastFor), span(demoapi.MostFor))
		}
		return nil
	}
}

// order sends an order to the demo, and shows what it answers.
func (a *app) order(ctx context.Context, f *demoFlags, o demoapi.Order) error {
	answer, err := a.sendOrder(ctx, f, o)
	if err != nil {
		return err
	}
	if o.Knob != demoapi.KnobStatus && a.flags.output == formatTable && !a.flags.habit() {
		fmt.Fprintln(a.Stdout, clean(answer.Done))
		fmt.Fprintln(a.Stdout, "next: "+clean(answer.Next))
		return nil
	}
	return a.show(view{
		value: answer, msg: "demo", attrs: []any{"demo", answer},
		table: func(t *table) { demoTable(t, answer.Status) },
	})
}

// sendOrder posts an order to the demo.
func (a *app) sendOrder(ctx context.Context, f *demoFlags, o demoapi.Order) (answer demoapi.Answer, err error) {
	address, err := a.demoAddress(f)
	if err != nil {
		return answer, err
	}
	body, err := json.Marshal(o)
	if err != nil {
		return answer, err
	}
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+demoapi.Path, bytes.NewReader(body))
	if err != nil {
		return answer, usagef("--demo %q is no address of the form host:port", address)
	}
	req.Header.Set("Content-Type", demoapi.ContentType)
	req.Header.Set(demoapi.Header, demoapi.HeaderValue)
	client := http.Client{ // no proxy is asked for what is on this machine, and nobody may send the order on
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return answer, interruptedf("interrupted")
		}
		return answer, noDemo(address, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, demoAnswer))
	if err != nil {
		return answer, noDemo(address, err)
	}
	return readAnswer(address, resp.StatusCode, text)
}

// readAnswer reads what the demo has answered.
func readAnswer(address string, status int, text []byte) (answer demoapi.Answer, err error) {
	if status == http.StatusOK {
		if err := json.Unmarshal(text, &answer); err != nil || answer.Done == "" {
			return answer, noDemo(address, errNoDemo)
		}
		return answer, nil
	}
	var r demoapi.Refusal
	if json.Unmarshal(text, &r) != nil || r.Error == "" {
		return answer, noDemo(address, errNoDemo)
	}
	switch status {
	case http.StatusBadRequest:
		return answer, usagef("%s", r.Error)
	case http.StatusNotFound:
		return answer, notFoundf("%s", r.Error)
	case http.StatusConflict:
		return answer, refusedf("%s", r.Error)
	}
	return answer, failedf("the demo at %s refuses the order: %s", address, r.Error)
}

// demoAddress is where the demo is: by the flag, the environment, or its usual port. It must be on this machine.
func (a *app) demoAddress(f *demoFlags) (string, error) {
	env, _ := a.Env.LookupEnv(demoEnv)
	address := cmp.Or(f.address, strings.TrimSpace(env), net.JoinHostPort("127.0.0.1", strconv.Itoa(demoapi.DefaultPort)))
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	if err != nil || port == "" || !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
		return "", usagef("the demo's address %q (--demo or %s) is not of the form 127.0.0.1:PORT: a demo takes orders on its own machine alone", address, demoEnv)
	}
	return address, nil
}

// errNoDemo says that something else than a demo answers.
var errNoDemo = errors.New("what answers there is no demo")

// noDemo says that no demo answers, and what to do.
func noDemo(address string, err error) error {
	reason := lastWords(err.Error())
	var dial *net.OpError
	switch late := net.Error(nil); {
	case errors.As(err, &late) && late.Timeout():
		reason = fmt.Sprintf("no answer within %s", demoLimit)
	case !errors.As(err, &dial) || dial.Op != "dial":
		reason = errNoDemo.Error()
	}
	return failedf("no demo answers at %s: %s; start one in another terminal: go run ./cmd/standalone --simulate. "+
		"If one runs, give the address that it prints as --demo or %s", address, reason, demoEnv)
}

// demoTable shows how the demo stands.
func demoTable(t *table, s demoapi.Status) {
	percent := func(p float64) string { return fmt.Sprintf("%.0f %%", p) }
	because := func(is bool, why string) string {
		if is {
			return " (" + why + ")"
		}
		return ""
	}
	t.section("CLUSTER", "LOAD", "CPU", "ALARM", "PREEMPTED VMS OFF")
	for _, c := range s.Clusters {
		t.row(c.Name, percent(c.Demand)+because(c.Held, "held"), percent(c.CPU), c.Alarm+because(c.Pinned, "held"), strconv.Itoa(c.Off))
	}
	part := func(p demoapi.Part, up, down string) string {
		switch {
		case p.Up:
			return up
		case p.Until.IsZero():
			return down
		}
		return down + ", until " + timestamp(p.Until)
	}
	t.section()
	t.row("day", fmt.Sprintf("%s, at speed %v", s.Day, s.Speed))
	t.row("worker", part(s.Worker, "runs", "killed"))
	t.row("vCenter", part(s.VCenter, "answers", "cut off"))
	t.row("Temporal", s.Temporal)
	t.field("console", s.Console)
}
