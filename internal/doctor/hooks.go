package doctor

import (
	"net/url"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
)

// chats are the hosts of hooks that take messages of their own form and refuse CloudEvents; of some hosts only paths below
// the prefix are hooks.
var chats = []struct{ host, path, name string }{
	{"hooks.slack.com", "/", "Slack"},
	{"discord.com", "/api/webhooks", "Discord"},
	{"discordapp.com", "/api/webhooks", "Discord"},
	{".webhook.office.com", "/", "Teams"},
	{".logic.azure.com", "/workflows", "Teams"},
	{".environment.api.powerplatform.com", "/", "Teams"},
}

// chatOf returns whose hook an address is; "" for none that is known.
func chatOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	for _, c := range chats {
		if (host == c.host || strings.HasPrefix(c.host, ".") && strings.HasSuffix(host, c.host)) && strings.HasPrefix(u.Path, c.path) {
			return c.name
		}
	}
	return ""
}

// hooks finds rules that reply to a chat: it does not take CloudEvents, and nobody would read anything there.
func (e *examination) hooks() {
	for _, r := range e.Rules {
		if chat := chatOf(r.Action.Reply()); chat != "" {
			e.add(doctorapi.Warning, "rule "+r.Name(), "its replyTo is a hook of "+chat+", which refuses CloudEvents",
				"name the hook in a channel under notifications instead: see docs/notifications.md")
		}
	}
}
