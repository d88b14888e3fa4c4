package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval/notify"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/vault"
)

// link is where an approval is answered; "": nobody configured where.
func (s *Server) link(id string) string {
	if url := s.inForce.Load().config.URL; url != "" {
		return strings.TrimSuffix(url, "/") + "/approvals/" + id
	}
	return ""
}

// newNotifier makes what tells people of approvals.
func (s *Server) newNotifier() *notify.Notifier {
	client := notify.NewHTTP()
	return notify.New(notify.Options{Ledger: s.house.ledger, Link: s.link, Now: s.Now, Logger: s.Logger, Left: s.house.notices,
		Channels: func() []notify.Channel { return s.inForce.Load().channels(client, s.Now) }})
}

// channels are those of a configuration. Their secrets are read when they are
// used.
func (r *rules) channels(client *http.Client, now func() time.Time) []notify.Channel {
	var all []notify.Channel
	for i := range r.config.Notify {
		n := &r.config.Notify[i]
		all = append(all, notify.Channel{Name: n.Name, Events: n.Events, Groups: n.Groups, Sender: r.sender(n, client, now)})
	}
	return all
}

func (r *rules) sender(n *config.Notify, client *http.Client, now func() time.Time) notify.Sender {
	switch {
	case n.Slack != nil:
		return &notify.Slack{Client: client, Webhook: r.secret(&n.Slack.Webhook), Signing: r.secret(n.Slack.SigningSecret)}
	case n.Teams != nil:
		return &notify.Teams{Client: client, Webhook: r.secret(&n.Teams.Webhook)}
	case n.Email != nil:
		e := n.Email
		return &notify.Email{Server: e.Server, TLS: e.TLS, From: e.From, To: e.To, Username: e.Username, Password: r.secret(e.Password)}
	case n.PagerDuty != nil:
		return &notify.PagerDuty{Client: client, URL: n.PagerDuty.URL, Routing: r.secret(&n.PagerDuty.RoutingKey)}
	default:
		return &notify.Webhook{Client: client, URL: n.Webhook.URL, Secret: r.secret(&n.Webhook.Secret), Now: now}
	}
}

// secret reads a secret of a channel's; nil: it has none.
func (r *rules) secret(s *config.Secret) notify.Secret {
	if s == nil {
		return nil
	}
	const name = "notify" // in errors
	lender := vault.New(map[string]vault.Source{name: source(&config.Credential{Password: *s})}, r.services)
	return func(ctx context.Context) (string, error) {
		cred, err := lender.Lend(ctx, &custos.Connection{Name: name})
		return cred.Password, err
	}
}
