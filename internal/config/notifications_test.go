package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

func TestChannelsAreReadAsTheFileHasThem(t *testing.T) {
	f, err := ParseFile("p.yaml", []byte(`
notifications:
  consoleURL: https://console.example.com
  channels:
    - {name: ops, urlFrom: {env: NOTIFY_OPS}, on: [notice, failed], clusters: [domain-c7], templates: {notice: "{{.Names}} will go"}}
    - {name: owners, urlFrom: {file: /run/secrets/mail}, owners: true, mailDomains: [example.com]}
`))
	if err != nil {
		t.Fatal(err)
	}
	list := f.Notifications.Channels
	if len(list) != 2 || list[0].URLFrom.Env != "NOTIFY_OPS" || !slices.Equal(list[0].On, []tell.Event{tell.Notice, tell.Failed}) || list[0].Templates[tell.Notice] == "" {
		t.Errorf("%+v", list)
	}
	if !list[1].Owners || list[1].URLFrom.File != "/run/secrets/mail" || list[1].MailDomains[0] != "example.com" {
		t.Errorf("%+v", list[1])
	}
}

func TestWhatAChannelMustNotSayIsRefusedAtItsLineAndSecretsAreNotRepeated(t *testing.T) {
	const start = "notifications:\n  channels:\n    - {name: ops, "
	for what, c := range map[string]struct{ text, says string }{
		"an address in the file":   {start + "urlFrom: 'https://hooks.slack.com/canary', on: [notice]}", "p.yaml:3: notifications.channels[0].urlFrom: the address is a secret"},
		"an unknown key":           {start + "url: 'https://hooks.slack.com/canary', urlFrom: {env: A}, on: [notice]}", "unknown key; allowed are alarms, clusters"},
		"an unknown event":         {start + "urlFrom: {env: A}, on: [notise]}", `"notise" is not one of notice, preempted`},
		"no event":                 {start + "urlFrom: {env: A}}", "on: is missing"},
		"no address":               {start + "on: [notice]}", "urlFrom: is missing"},
		"both sources":             {start + "urlFrom: {env: A, file: /a}, on: [notice]}", "wants one of {env: NAME} and {file: PATH}"},
		"a relative path":          {start + "urlFrom: {file: a/b}, on: [notice]}", "is no absolute path"},
		"an address as a variable": {start + "urlFrom: {env: 'https://canary'}, on: [notice]}", "is no name of a variable"},
		"a template that is none":  {start + "urlFrom: {env: A}, on: [notice], templates: {notice: '{{.Names'}}", "templates.notice: cannot be used: "},
		"an unknown field":         {start + "urlFrom: {env: A}, on: [notice], templates: {notice: '{{.Nam}}'}}", "can't evaluate field Nam"},
		"an empty text":            {start + "urlFrom: {env: A}, on: [notice], templates: {notice: ' '}}", "it makes an empty text"},
		"an endless text":          {start + "urlFrom: {env: A}, on: [notice], templates: {notice: '{{range 5000}}x{{end}}'}}", "its text is longer than 4096 bytes"},
		"a channel twice":          {start + "urlFrom: {env: A}, on: [notice]}\n    - {name: ops, urlFrom: {env: B}, on: [notice]}", `"ops" is also the name of channel 1`},
		"a bad name":               {"notifications:\n  channels:\n    - {name: Ops 1, urlFrom: {env: A}, on: [notice]}", "is no name of a channel"},
		"domains without owners":   {start + "urlFrom: {env: A}, on: [notice], mailDomains: [a.com]}", "is for owners"},
		"a console with a secret":  {"notifications: {consoleURL: 'https://u:canary@x'}", "is no http or https URL"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := ParseFile("p.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}
