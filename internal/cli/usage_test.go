package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

// Nothing here reaches a server: the address is one that nobody answers at.
func TestWrongUsageExitsWith2AndSaysWhatIsWrong(t *testing.T) {
	cases := map[string]struct {
		args []string
		says string
	}{
		"an unknown command":               {[]string{"wurkflow"}, `unknown command "wurkflow"`},
		"an unknown subcommand":            {[]string{"workflow", "runn"}, `did you mean run?`},
		"no subcommand":                    {[]string{"workflow"}, "needs a subcommand"},
		"an unknown help topic":            {[]string{"help", "nosuch"}, "unknown help topic"},
		"an unknown help subtopic":         {[]string{"help", "workflow", "nosuch"}, "unknown help topic"},
		"an unknown shell":                 {[]string{"completion", "tcsh"}, `unknown command "tcsh"`},
		"an unknown flag":                  {[]string{"workflow", "run", "--nosuch"}, "unknown flag: --nosuch"},
		"an argument where none is taken":  {[]string{"workflow", "status", "x"}, "takes no arguments"},
		"an empty namespace":               {[]string{"workflow", "run", "--namespace", ""}, "--namespace is empty"},
		"an empty server":                  {[]string{"workflow", "status", "--server="}, "--server is empty"},
		"an empty queue":                   {[]string{"workflow", "list", "-q", " "}, "--queue is empty"},
		"an unknown output format":         {[]string{"workflow", "list", "-o", "xml"}, "table, json, yaml"},
		"an unknown criticality":           {[]string{"workflow", "run", "-c", "urgent"}, "use LOW, MEDIUM or HIGH"},
		"an empty tag":                     {[]string{"workflow", "run", "-t", ""}, "--tag is empty"},
		"an empty workflow id of run":      {[]string{"workflow", "run", "-w", ""}, "--workflow-id is empty"},
		"the ledger's id":                  {[]string{"workflow", "run", "-w", "preemption-ledger@q"}, `"preemption-ledger@q" is reserved: such ids belong to the ledger`},
		"a round's id":                     {[]string{"workflow", "run", "-w", "round-0123456789ab-cpu@domain-c7"}, "is reserved: such ids belong to rounds"},
		"an empty workflow id of status":   {[]string{"workflow", "status", "-w", ""}, "--workflow-id is empty"},
		"a run id that is none":            {[]string{"workflow", "status", "-r", "latest"}, `--run-id "latest" is no run id`},
		"an empty workflow id of cancel":   {[]string{"workflow", "cancel", "-w", ""}, "--workflow-id is empty"},
		"an event that is no JSON":         {[]string{"workflow", "run", "-e", "{"}, "--event: the event is no structured CloudEvent"},
		"an event without its attributes":  {[]string{"workflow", "run", "-e", `{"specversion":"1.0"}`}, "--event"},
		"an event file that is missing":    {[]string{"workflow", "run", "-e", "@/no/such/file"}, "no such file"},
		"an empty standard input":          {[]string{"workflow", "run", "-e", "-"}, "the event is empty"},
		"a reply address that is no URL":   {[]string{"workflow", "run", "--reply-to", "broker"}, "no http or https URL"},
		"a timeout without wait":           {[]string{"workflow", "run", "--timeout", "5s"}, "need --wait"},
		"fail-empty without wait":          {[]string{"workflow", "run", "--fail-empty"}, "need --wait"},
		"a negative timeout":               {[]string{"workflow", "run", "--wait", "--timeout", "-5s"}, "negative"},
		"a negative timeout of plan":       {[]string{"workflow", "plan", "--timeout", "-5s"}, "negative"},
		"a limit of zero":                  {[]string{"workflow", "list", "--limit", "0"}, "--limit 0"},
		"a cancel timeout without wait":    {[]string{"workflow", "cancel", "--timeout", "5s"}, "needs --wait"},
		"a value that is no number":        {[]string{"workflow", "list", "--limit", "many"}, "--limit"},
		"a replay of nothing":              {[]string{"policy", "replay"}, "policy replay takes one file, got 0 arguments"},
		"a replay of the future":           {[]string{"policy", "replay", "f", "--since", "-1h"}, "--since -1h0m0s is not above zero"},
		"a replay of no rounds":            {[]string{"policy", "replay", "f", "--limit", "0"}, "--limit 0 is not within 1 to 1000"},
		"an eviction of nothing":           {[]string{"evict"}, "evict takes one VM: its name, inventory path or MoRef, got 0 arguments"},
		"an eviction of an empty name":     {[]string{"evict", " "}, "VM is empty"},
		"a VM with a name like a book":     {[]string{"evict", strings.Repeat("n", 1025)}, "VM is 1025 bytes long"},
		"a notice of an eviction":          {[]string{"evict", "web-1", "--notice", "5m"}, "--notice needs --notice-only"},
		"a rehearsal that touches nothing": {[]string{"evict", "web-1", "--notice-only", "--dry-run"}, "use one of them"},
		"a rehearsal of a day":             {[]string{"evict", "web-1", "--notice-only", "--notice", "24h"}, "--notice 24h0m0s is not within 1s to 1h0m0s"},
		"an eviction's negative timeout":   {[]string{"evict", "web-1", "--timeout", "-1s"}, "negative"},
		"a timeout that nobody waits for":  {[]string{"evict", "web-1", "--timeout", "1s", "--wait=false"}, "--timeout needs --wait"},
		"an eviction to what is no URL":    {[]string{"evict", "web-1", "--reply-to", "broker"}, "no http or https URL"},
		"a schedule without a name":        {[]string{"schedule", "create", "--at", "22:00"}, "takes one argument, the name of a schedule, got 0"},
		"a name with a space":              {[]string{"schedule", "delete", "my nightly"}, `"my nightly" is no name of a schedule`},
		"a name that is too long":          {[]string{"schedule", "pause", strings.Repeat("n", 65)}, "at most 64"},
		"a schedule without a time":        {[]string{"schedule", "create", "n"}, "no time is given: use --cron, --at or --every"},
		"two ways to say when":             {[]string{"schedule", "create", "n", "--cron", "@daily", "--at", "22:00"}, "--cron says when by itself"},
		"a cron of four fields":            {[]string{"schedule", "create", "n", "--cron", "0 22 * *"}, "it has 4 of 5 fields; write minute hour day month weekday"},
		"a cron hour out of range":         {[]string{"schedule", "create", "n", "--cron", "0 24 * * *"}, `"24" is no hour; it is 0 to 23`},
		"a cron day that is none":          {[]string{"schedule", "create", "n", "--cron", "0 22 * * Feierabend"}, `"Feierabend" is no weekday`},
		"a cron range that runs backwards": {[]string{"schedule", "create", "n", "--cron", "0 22 * * FRI-MON"}, "ends before it begins; write two ranges"},
		"a cron step of zero":              {[]string{"schedule", "create", "n", "--cron", "*/0 22 * * *"}, `"0" is no step of the minute`},
		"a cron with a time zone":          {[]string{"schedule", "create", "n", "--cron", "TZ=UTC 0 22 * * *"}, "--time-zone"},
		"a cron with an interval":          {[]string{"schedule", "create", "n", "--cron", "@every 5h"}, "--every"},
		"a cron that never comes":          {[]string{"schedule", "create", "n", "--cron", "0 0 30 2 *"}, "there is no such day"},
		"a time that is none":              {[]string{"schedule", "create", "n", "--at", "25:00"}, "not a time of day"},
		"a time and an odd interval":       {[]string{"schedule", "create", "n", "--at", "22:00", "--every", "5h"}, "a day must be a multiple of it"},
		"an interval of a second":          {[]string{"schedule", "create", "n", "--every", "1s"}, "--every 1s is not within 1m to"},
		"a zone for an interval":           {[]string{"schedule", "create", "n", "--every", "5h", "--time-zone", "Europe/Berlin"}, "has no effect on --every alone"},
		"an unknown time zone":             {[]string{"schedule", "create", "n", "--at", "22:00", "--time-zone", "Europe/Berln"}, `--time-zone "Europe/Berln" is not known`},
		"the local time zone":              {[]string{"schedule", "create", "n", "--at", "22:00", "--time-zone", "Local"}, `--time-zone "Local" is not known`},
		"an unknown overlap policy":        {[]string{"schedule", "create", "n", "--at", "22:00", "--overlap", "queue"}, "skip, buffer-one, cancel-other, allow-all"},
		"a catch-up of days":               {[]string{"schedule", "create", "n", "--at", "22:00", "--catch-up", "48h"}, "--catch-up 48h0m0s is not within 10s to 24h"},
		"a negative jitter":                {[]string{"schedule", "create", "n", "--at", "22:00", "--jitter", "-1s"}, "--jitter"},
		"a scheduled criticality":          {[]string{"schedule", "create", "n", "--at", "22:00", "-c", "urgent"}, "use LOW, MEDIUM or HIGH"},
		"a scheduled tag that is empty":    {[]string{"schedule", "create", "n", "--at", "22:00", "-t", " "}, "--tag is empty"},
		"a scheduled reply to nowhere":     {[]string{"schedule", "create", "n", "--at", "22:00", "--reply-to", "broker"}, "no http or https URL"},
		"a note as long as a book":         {[]string{"schedule", "create", "n", "--at", "22:00", "--note", strings.Repeat("n", 501)}, "--note is 501 bytes long"},
		"a scheduled reconciliation's tag": {[]string{"schedule", "create", "n", "--at", "22:00", "--reconcile", "-t", "spot"}, "--tag is for a preemption"},
		"its criticality":                  {[]string{"schedule", "create", "n", "--at", "22:00", "--reconcile", "-c", "LOW"}, "--criticality is for a preemption"},
		"its reply address":                {[]string{"schedule", "create", "n", "--at", "22:00", "--reconcile", "--reply-to", "http://x"}, "--reply-to is for a preemption"},
		"its policy":                       {[]string{"schedule", "create", "n", "--at", "22:00", "--reconcile", "--policy", "p"}, "--policy is for a preemption"},
		"a reconciliation without wait":    {[]string{"reconcile", "--timeout", "1s"}, "--timeout needs --wait or --dry-run"},
		"its negative timeout":             {[]string{"reconcile", "--wait", "--timeout", "-1s"}, "negative"},
		"a category without tags":          {[]string{"tags", "create", "--category", "config.hardware.numCPU"}, "names no tags: write it as NAME=TAG,TAG"},
		"a category with an empty list":    {[]string{"tags", "create", "--category", "tier="}, "names no tags"},
		"a category without a name":        {[]string{"tags", "create", "--category", "=8"}, "the category is empty"},
		"an empty tag name":                {[]string{"tags", "create", "--category", "tier=gold,,silver"}, `the tag "" is empty`},
		"a tag that is no number":          {[]string{"tags", "create", "--category", "config.hardware.numCPU=many"}, `the tag "many" is no number above zero`},
		"a tag that is zero":               {[]string{"tags", "create", "--category", "config.hardware.memoryMB=0"}, "is no number above zero"},
		"a tag with leading zeros":         {[]string{"tags", "create", "--category", "remediation-max-cpus=08"}, "is no number above zero"},
		"a tag that is no boolean":         {[]string{"tags", "create", "--category", "config.cpuHotAddEnabled=yes"}, "is neither true nor false"},
		"a tag that is no mode":            {[]string{"tags", "create", "--category", "remediation-mode=force"}, "is no mode: use recommend, tag, "},
		"a tag with an escape":             {[]string{"tags", "create", "--category", "tier=a\x1b[31m"}, "has control characters"},
		"a tag like a book":                {[]string{"tags", "create", "--category", "tier=" + strings.Repeat("n", 257)}, "is 257 bytes long: at most 256"},
		"too many tags":                    {append([]string{"tags", "create"}, manyTags(1, 257)...), "names 257 tags: at most 256"},
		"too many categories":              {append([]string{"tags", "create"}, manyTags(65, 1)...), "names 65 categories: at most 64"},
		"no time to create tags":           {[]string{"tags", "create", "--timeout", "0s"}, "--timeout 0s is not above zero"},
		"the tags of nothing":              {[]string{"tags", "show"}, "tags show takes one VM"},
		"the tags of an empty name":        {[]string{"tags", "show", " "}, "VM is empty"},
		"a remediation of nothing":         {[]string{"remediation", "show"}, "takes one id of a remediation, or the name"},
		"an unknown kind":                  {[]string{"remediation", "list", "--kind", "grow"}, `--kind "grow" is not one of resize, reconfigure, move`},
		"no remediations":                  {[]string{"remediation", "list", "--limit", "0"}, "--limit 0"},
		"a plan for nothing":               {[]string{"remediation", "plan"}, "takes a VM or a datastore: name a VM"},
		"a plan for two things":            {[]string{"remediation", "plan", "web-1", "--datastore", "ds-1"}, `got both "web-1" and --datastore`},
		"a datastore without name":         {[]string{"remediation", "plan", "--datastore", ""}, "--datastore is empty"},
		"an unknown resource":              {[]string{"remediation", "plan", "web-1", "--resource", "disk"}, "not one of cpu, memory"},
		"an unknown mode":                  {[]string{"remediation", "plan", "web-1", "--mode", "off"}, "not one of recommend, tag"},
		"an unknown sizing":                {[]string{"remediation", "plan", "web-1", "--sizing", "double"}, "not one of steps, original"},
		"a bound of nothing":               {[]string{"remediation", "plan", "web-1", "--max", "8"}, "--max needs --resource"},
		"a bound below one":                {[]string{"remediation", "plan", "web-1", "--resource", "cpu", "--max", "-1"}, "--max -1 is not within 1 to 1024"},
		"a resource of a move":             {[]string{"remediation", "plan", "web-1", "--move", "--resource", "cpu"}, "--resource is for a resize"},
		"a sizing of a datastore":          {[]string{"remediation", "plan", "datastore-5", "--sizing", "steps"}, "--sizing is for a resize"},
		"a target of a resize":             {[]string{"remediation", "plan", "web-1", "--target-usage", "70"}, "--target-usage is for a move"},
		"a target of zero":                 {[]string{"remediation", "plan", "datastore-5", "--target-usage", "0"}, "is not within 10 to 95"},
		"a mode of a resize for a move":    {[]string{"remediation", "plan", "datastore-5", "--mode", "tag"}, "a move takes recommend, or none"},
		"a plan in no time":                {[]string{"remediation", "plan", "web-1", "--timeout", "-1s"}, "is not above zero"},
		"a power cycle without a window":   {[]string{"remediation", "run", "web-1", "--mode", "powerCycleInWindow"}, "is for rules, which have the time window"},
		"a remediation nobody waits for":   {[]string{"remediation", "run", "web-1", "--timeout", "1s"}, "--timeout needs --wait"},
		"an unknown profile is configured": {[]string{"workflow", "list"}, "TEMPORAL_"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			env := environment{"TEMPORAL_URL": "127.0.0.1:1"}
			if strings.Contains(name, "profile") {
				env["TEMPORAL_PROFILE"] = "nosuch"
			}
			got := preemptctl(t, cli.Options{Env: env}, c.args...)
			got.want(t, 2, "stderr", "Error: ", c.says, "--help'")
			if got.stdout != "" {
				t.Errorf("wrong usage wrote to stdout:\n%s", got.stdout)
			}
		})
	}
}

func TestHelpAndVersionExitWith0(t *testing.T) {
	build := cli.Build{Version: "1.2.3", Commit: "abcdef", Date: "2026-01-02"}
	version := "preemptctl 1.2.3 (commit abcdef, built 2026-01-02)\n"
	cases := map[string]struct {
		args []string
		says string
	}{
		"nothing at all":       {nil, "Usage:"},
		"help":                 {[]string{"help"}, "Usage:"},
		"help of a command":    {[]string{"help", "workflow", "run"}, "--criticality"},
		"--help":               {[]string{"workflow", "run", "--help"}, "Exit status: 0 done; 1 failed"},
		"--version":            {[]string{"--version"}, version},
		"-v":                   {[]string{"-v"}, version},
		"-v behind a command":  {[]string{"workflow", "status", "-v"}, version},
		"--version in a group": {[]string{"workflow", "--version"}, version},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			preemptctl(t, cli.Options{Build: build}, c.args...).want(t, 0, "stdout", c.says)
		})
	}
}

func TestCompletionScriptsForThreeShells(t *testing.T) {
	for shell, says := range map[string]string{
		"bash": "__start_preemptctl", "zsh": "#compdef preemptctl", "fish": "complete -c preemptctl",
	} {
		t.Run(shell, func(t *testing.T) {
			preemptctl(t, cli.Options{}, "completion", shell).want(t, 0, "stdout", says)
		})
	}
	preemptctl(t, cli.Options{}, "__complete", "workflow", "run", "-c", "").want(t, 0, "stdout", "MEDIUM")
	preemptctl(t, cli.Options{}, "__complete", "workflow", "").want(t, 0, "stdout", "cancel", "plan")
}

func TestAProfileIsReadOnlyWhereItIsAskedFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "temporal.toml")
	text := "[profile.default]\naddress = \"127.0.0.1:1\"\nnamespace = \"other\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := environment{"TEMPORAL_CONFIG_FILE": file}
	preemptctl(t, cli.Options{Env: asked}, "workflow", "list").want(t, 1, "stderr", "cannot reach Temporal at 127.0.0.1:1: connection refused")
}

func TestTheAddressIsTakenFromFlagThenURLThenAddress(t *testing.T) {
	cases := map[string]struct {
		env  environment
		args []string
		want string
	}{
		"the flag beats the environment":        {environment{"TEMPORAL_URL": "127.0.0.1:2", "TEMPORAL_ADDRESS": "127.0.0.1:3"}, []string{"-s", "127.0.0.1:4"}, "127.0.0.1:4"},
		"TEMPORAL_URL beats TEMPORAL_ADDRESS":   {environment{"TEMPORAL_URL": "127.0.0.1:2", "TEMPORAL_ADDRESS": "127.0.0.1:3"}, nil, "127.0.0.1:2"},
		"TEMPORAL_ADDRESS suffices":             {environment{"TEMPORAL_ADDRESS": "127.0.0.1:3"}, nil, "127.0.0.1:3"},
		"an empty variable is as good as unset": {environment{"TEMPORAL_URL": "", "TEMPORAL_ADDRESS": "127.0.0.1:3"}, nil, "127.0.0.1:3"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := preemptctl(t, cli.Options{Env: c.env}, append([]string{"workflow", "list"}, c.args...)...)
			got.want(t, 1, "stderr", "cannot reach Temporal at "+c.want+": connection refused; check --server or TEMPORAL_URL")
		})
	}
}
