package tell

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func many(n int) (vms []VM) {
	for i := range n {
		vms = append(vms, VM{Ref: fmt.Sprintf("VirtualMachine:vm-%d", i), Name: fmt.Sprintf("batch-%02d", i), Note: "powered off"})
	}
	return vms
}

func TestMessagesReadAsTheGoldenFilesSay(t *testing.T) {
	crowd := Sample(Preempted)
	crowd.What, crowd.Stop = "gave way", ""
	hostile := Sample(Notice).With([]VM{{Name: "<!channel> @here [x](http://evil.example/?token=abc)\n\x1b[31m"}})
	hostile.Cluster = "c\nTo stop it: rm -rf /"
	for name, m := range map[string]Message{
		"notice": Sample(Notice), "crowd": crowd.With(many(1200)), "hostile": hostile,
		"bare": {Event: Failed, What: "a round could not be carried out"}, "test": {What: "a test by preemptctl: this channel works"},
	} {
		text, err := Render(m, "https://console.example.com/", "")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".txt")
		got := text.Title + "\n---\n" + text.Body
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, want)
		}
	}
}

func TestATemplateMakesTheBodyAndAWrongOneLeavesOurs(t *testing.T) {
	text, err := Render(Sample(Notice), "", "{{.Count}} of {{.Cluster}}: {{range .VMs}}{{.}};{{end}}")
	if err != nil || text.Body != "2 of cluster-a: batch-1;batch-2;" {
		t.Errorf("%q %v", text.Body, err)
	}
	text, err = Render(Sample(Notice), "", "{{.Nothing}}")
	if err == nil || !strings.Contains(text.Body, "batch-1") {
		t.Errorf("%q %v", text.Body, err)
	}
}

func TestAChannelGetsWhatItWants(t *testing.T) {
	m := Sample(Notice)
	for what, c := range map[string]struct {
		channel Channel
		wants   bool
	}{
		"another event":     {Channel{On: []Event{Failed}}, false},
		"any cluster":       {Channel{On: []Event{Notice}}, true},
		"its MoRef":         {Channel{On: []Event{Notice}, Clusters: []string{"domain-c1"}}, true},
		"its name":          {Channel{On: []Event{Notice}, Clusters: []string{"Cluster-A"}}, true},
		"another cluster":   {Channel{On: []Event{Notice}, Clusters: []string{"domain-c12"}}, false},
		"alarms that match": {Channel{On: []Event{Notice}, Alarms: []string{"cluster-*"}}, true},
		"another alarm":     {Channel{On: []Event{Notice}, Alarms: []string{"host-*"}}, false},
	} {
		if got := c.channel.Wants(m); got != c.wants {
			t.Errorf("%s: %v", what, got)
		}
	}
	if !(Channel{}).Wants(Message{}) {
		t.Error("a test is for every channel")
	}
}

func TestOnlyPlainAddressesOfAllowedDomainsGetMail(t *testing.T) {
	c := Channel{Owners: true, MailDomains: []string{"example.com"}}
	for address, want := range map[string]bool{
		"team@example.com": true, "Team.1+x@EXAMPLE.com": true, "team@example.com.evil.org": false, "team@evil.org": false, "@example.com": false,
		"a@evil.org,b@example.com": false, "a\r\nBcc: x@example.com": false, strings.Repeat("a", 250) + "@example.com": false, "": false,
	} {
		if c.Mails(address) != want {
			t.Errorf("%q: want %v", address, want)
		}
	}
	if (Channel{MailDomains: []string{"example.com"}}).Mails("team@example.com") {
		t.Error("a channel that is not for owners mails to one")
	}
}

func TestTheCommandIsReadyForAShell(t *testing.T) {
	if got := Command("vsphere-preemption", "vsphere-preemption", "workflow", "cancel", "--workflow-id", "a b$(x)"); !strings.HasSuffix(got, "'a b$(x)'") {
		t.Error(got)
	}
}
