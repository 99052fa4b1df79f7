package channel

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/slack"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/opsgenie"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/pagerduty"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/generic"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// services are those of the library that are linked, by the scheme of their addresses: all of them together would take
// several times the room.
var services = map[string]func() types.Service{
	"slack": func() types.Service { return &slack.Service{} }, "teams": func() types.Service { return &teams.Service{} },
	"discord": func() types.Service { return &discord.Service{} }, "pagerduty": func() types.Service { return &pagerduty.Service{} },
	"opsgenie": func() types.Service { return &opsgenie.Service{} }, schemeMail: func() types.Service { return &smtp.Service{} },
	schemeGeneric: func() types.Service { return &generic.Service{} },
}

const (
	schemeMail    = "smtp"
	schemeGeneric = "generic"
)

// SlackHost is the host of Slack's API, which its service knows by itself.
const SlackHost = "slack.com"

var errScheme = errors.New("its address is none of slack://, teams://, discord://, pagerduty://, opsgenie://, smtp://, generic:// and generic+https://: see docs/notifications.md")

// serviceFor makes the library's service for an address. Its error tells nothing of the address.
func serviceFor(address string) (types.Service, *url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, errors.New("its address is no URL")
	}
	scheme, web, custom := strings.Cut(u.Scheme, "+")
	make, known := services[scheme]
	if !known || custom && (scheme != schemeGeneric || web != "http" && web != "https") {
		return nil, nil, errScheme
	}
	s := make()
	initial := u
	if g, ok := s.(*generic.Service); ok && custom {
		if initial, err = g.GetConfigURLFromCustom(u); err != nil {
			return nil, nil, scrubbed(fmt.Errorf("its address cannot be used: %w", err), address)
		}
	}
	if err := s.Initialize(initial, log.New(io.Discard, "", 0)); err != nil { // its log would show the address
		return nil, nil, scrubbed(fmt.Errorf("its address cannot be used: %w", err), address)
	}
	return s, u, nil
}

// dialled is the host that a service connects to, where its address says so; "" where the service itself knows it.
func dialled(u *url.URL) string {
	scheme, _, _ := strings.Cut(u.Scheme, "+")
	switch scheme {
	case schemeGeneric, schemeMail, "opsgenie", "pagerduty":
		return u.Hostname()
	case "teams":
		return u.Query().Get("host")
	}
	return ""
}

// proxied reports whether a proxy connects in our place, so that the host need not be known here.
func proxied(u *url.URL) bool {
	if u.Scheme == schemeMail {
		return false
	}
	req := &http.Request{URL: &url.URL{Scheme: "https", Host: u.Host}}
	p, err := http.ProxyFromEnvironment(req)
	return err == nil && p != nil
}
