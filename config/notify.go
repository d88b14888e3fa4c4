package config

import (
	"fmt"
	"strings"
)

// Notify is a channel over which people are told of approvals: exactly one of
// slack, teams, email, pagerduty and webhook. What is sent holds no parameter,
// no answer and no secret, and a statement's text only where its rule says so.
type Notify struct {
	// The channel's name, in the ledger and in custos approval undelivered.
	Name string `yaml:"name" jsonschema:"required,example=dba-slack"`
	// What is told over it. Absent: requested and break-glass.
	Events []string `yaml:"events" jsonschema:"enum=requested,enum=break-glass,enum=answered"`
	// Only of approvals that one of these groups is asked about, and of broken
	// glass. Absent: of all.
	Groups []string `yaml:"groups"`
	// An incoming webhook of a Slack app.
	Slack *NotifySlack `yaml:"slack"`
	// A webhook of a Microsoft Teams workflow.
	Teams *NotifyTeams `yaml:"teams"`
	// Mail by SMTP.
	Email *NotifyEmail `yaml:"email"`
	// The Events API of PagerDuty, version 2.
	PagerDuty *NotifyPagerDuty `yaml:"pagerduty"`
	// A server of one's own, signed as Standard Webhooks has it.
	Webhook *NotifyWebhook `yaml:"webhook"`
}

// NotifySlack is an incoming webhook of a Slack app. Its button opens the
// approval, where one signs in.
type NotifySlack struct {
	// Where the webhook's URL lies: env, file or vault. It is a secret.
	Webhook Secret `yaml:"webhook" jsonschema:"required"`
	// Where the app's signing secret lies: env, file or vault. It is needed if
	// the app's interactivity is on, with /api/v1/notify/slack as its request URL.
	SigningSecret *Secret `yaml:"signing_secret"`
}

// NotifyTeams is a webhook of a Microsoft Teams workflow.
type NotifyTeams struct {
	// Where the webhook's URL lies: env, file or vault. It is a secret.
	Webhook Secret `yaml:"webhook" jsonschema:"required"`
}

// NotifyEmail is mail by SMTP.
type NotifyEmail struct {
	// The mail server's host:port.
	Server string `yaml:"server" jsonschema:"required,example=smtp.example.com:587"`
	// How TLS begins: with STARTTLS, or from the first byte. disable is for a
	// server on loopback.
	TLS string `yaml:"tls" jsonschema:"default=starttls,enum=starttls,enum=implicit,enum=disable"`
	// The sender's address.
	From string `yaml:"from" jsonschema:"required,example=custos@example.com"`
	// The receivers' addresses.
	To []string `yaml:"to" jsonschema:"required,example=dba@example.com"`
	// The user at the mail server. Absent: it asks for none.
	Username string `yaml:"username"`
	// Where the user's password lies: env, file or vault.
	Password *Secret `yaml:"password"`
}

// NotifyPagerDuty is an integration of PagerDuty's. What is answered resolves
// what was triggered, if events has answered.
type NotifyPagerDuty struct {
	// Where the integration's routing key lies: env, file or vault.
	RoutingKey Secret `yaml:"routing_key" jsonschema:"required"`
	// Where events are sent; the European service has another address.
	URL string `yaml:"url" jsonschema:"default=https://events.pagerduty.com/v2/enqueue"`
}

// NotifyWebhook is a server of one's own.
type NotifyWebhook struct {
	// Where it is posted to. http is taken on loopback only.
	URL string `yaml:"url" jsonschema:"required,example=https://hooks.example.com/custos"`
	// Where the signing secret lies: env, file or vault; whsec_ and base64 of 24
	// to 64 random bytes.
	Secret Secret `yaml:"secret" jsonschema:"required"`
}

// Secrets are those of the channel, by what they are.
func (n *Notify) Secrets() map[string]*Secret {
	all := map[string]*Secret{}
	switch {
	case n.Slack != nil:
		all["slack.webhook"] = &n.Slack.Webhook
		if n.Slack.SigningSecret != nil {
			all["slack.signing_secret"] = n.Slack.SigningSecret
		}
	case n.Teams != nil:
		all["teams.webhook"] = &n.Teams.Webhook
	case n.Email != nil && n.Email.Password != nil:
		all["email.password"] = n.Email.Password
	case n.PagerDuty != nil:
		all["pagerduty.routing_key"] = &n.PagerDuty.RoutingKey
	case n.Webhook != nil:
		all["webhook.secret"] = &n.Webhook.Secret
	}
	return all
}

// notifyPaths are the paths that are taken from the file's own folder.
func (c *Config) notifyPaths() (paths []*string) {
	for i := range c.Notify {
		for _, s := range c.Notify[i].Secrets() {
			paths = append(paths, &s.File)
		}
	}
	return paths
}

// checkNotify reports what is wrong with the channels.
func (d *decoder) checkNotify(c *Config) {
	d.checkURL(c.URL, "url")
	names := map[string]string{}
	for i := range c.Notify {
		n, key := &c.Notify[i], fmt.Sprintf("notify[%d]", i)
		if n.Name != "" && !connectionName.MatchString(n.Name) {
			d.fail(key+".name", "want lower-case letters, digits, - and _, at most 63")
		}
		d.once(names, n.Name, key+".name", "a channel of this name")
		d.distinct(n.Events, key+".events")
		kinds := 0
		for _, there := range []bool{n.Slack != nil, n.Teams != nil, n.Email != nil, n.PagerDuty != nil, n.Webhook != nil} {
			if there {
				kinds++
			}
		}
		if kinds != 1 {
			d.fail(key, "want exactly one of slack, teams, email, pagerduty and webhook")
			continue
		}
		for what, s := range n.Secrets() {
			d.checkSecret(c, s, key+"."+what)
			if s.Stored {
				d.fail(key+"."+what, "stored is for connections: want env, file or vault")
			}
		}
		switch {
		case n.Email != nil:
			d.checkEmail(n.Email, key+".email")
		case n.PagerDuty != nil:
			d.checkURL(n.PagerDuty.URL, key+".pagerduty.url")
		case n.Webhook != nil:
			d.checkURL(n.Webhook.URL, key+".webhook.url")
		}
	}
	if len(c.Notify) > 0 && c.URL == "" {
		d.warn("notify", "messages have no link: add url, with the address at which people reach the gateway")
	}
}

func (d *decoder) checkEmail(e *NotifyEmail, key string) {
	d.checkAddress(e.Server, key+".server", false)
	host, _, _ := splitAddress(e.Server)
	if e.TLS == "disable" && !loopback(host) {
		d.fail(key+".tls", "mail would cross the network in the clear: use starttls or implicit")
	}
	if (e.Username == "") != (e.Password == nil) {
		d.fail(key, "want username and password, or neither")
	}
	for i, to := range append([]string{e.From}, e.To...) {
		if at := strings.LastIndexByte(to, '@'); at < 1 || at == len(to)-1 || strings.ContainsAny(to, " \r\n<>,;") {
			where := key + ".from"
			if i > 0 {
				where = fmt.Sprintf("%s.to[%d]", key, i-1)
			}
			d.fail(where, "want an address such as dba@example.com")
		}
	}
}
