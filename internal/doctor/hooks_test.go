package doctor

import "testing"

func TestAReplyAddressThatIsAChatIsNoticed(t *testing.T) {
	for address, want := range map[string]string{
		"https://hooks.slack.com/services/T/B/x": "Slack", "https://discord.com/api/webhooks/1/x": "Discord", "https://discord.com/other": "",
		"https://site.webhook.office.com/webhookb2/x": "Teams", "https://webhook.office.com.evil.org/": "", "https://events.example.com/": "", "": "", "://": "",
	} {
		if got := chatOf(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
