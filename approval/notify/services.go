package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Teams posts an Adaptive Card to a webhook of a Microsoft Teams workflow
// (https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook).
type Teams struct {
	Client  *http.Client
	Webhook Secret // its URL
}

type object map[string]any

// Send is of Sender. Texts of callers are in text runs, which have no mark-up.
func (t *Teams) Send(ctx context.Context, m *Message) error {
	to, err := address(ctx, t.Webhook)
	if err != nil {
		return err
	}
	run := func(text string, more object) object {
		r := object{"type": "TextRun", "text": text}
		for k, v := range more {
			r[k] = v
		}
		return r
	}
	block := func(runs ...object) object { return object{"type": "RichTextBlock", "inlines": runs} }
	body := []object{block(run(m.Title, object{"weight": "Bolder", "size": "Medium"}))}
	for _, f := range m.Facts {
		body = append(body, block(run(f[0]+": ", object{"weight": "Bolder"}), run(f[1], nil)))
	}
	if m.Statement != "" {
		body = append(body, block(run(m.Statement, object{"fontType": "Monospace"})))
	}
	card := object{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body}
	if m.Link != "" {
		card["actions"] = []object{{"type": "Action.OpenUrl", "title": "Sign in and answer", "url": m.Link}}
	}
	b, err := json.Marshal(object{"type": "message", "attachments": []object{{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}}})
	if err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	return post(ctx, t.Client, to, b, nil)
}

// PagerDuty sends events to its Events API, version 2
// (https://developer.pagerduty.com/docs/events-api-v2-overview). What is
// answered resolves what was triggered.
type PagerDuty struct {
	Client  *http.Client
	URL     string // of the API
	Routing Secret // the key of the integration
}

// Send is of Sender.
func (p *PagerDuty) Send(ctx context.Context, m *Message) error {
	key, err := p.Routing(ctx)
	if err != nil {
		return err
	}
	event := object{"routing_key": key, "dedup_key": "custos-approval-" + m.Approval, "event_action": "trigger"}
	if m.Event == Answered {
		event["event_action"] = "resolve"
	} else {
		severity := "warning"
		if m.Event == BreakGlass {
			severity = "critical"
		}
		details := object{}
		for _, f := range m.Facts {
			details[f[0]] = f[1]
		}
		if m.Statement != "" {
			details["Statement"] = m.Statement
		}
		event["payload"] = object{"summary": m.Title, "source": "custos", "severity": severity, "timestamp": m.At.UTC().Format(time.RFC3339), "custom_details": details}
		if m.Link != "" {
			event["links"] = []object{{"href": m.Link, "text": "Sign in and answer"}}
		}
	}
	b, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return post(ctx, p.Client, p.URL, b, nil)
}

// Webhook posts JSON to a server of one's own, signed as Standard Webhooks has
// it (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body.
type Webhook struct {
	Client *http.Client
	URL    string
	Secret Secret // whsec_ and base64
	Now    func() time.Time
}

// Send is of Sender.
func (w *Webhook) Send(ctx context.Context, m *Message) error {
	secret, err := w.Secret(ctx)
	if err != nil {
		return err
	}
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("%w: the secret of the webhook is not base64 with whsec_ in front: make one with: echo whsec_$(openssl rand -base64 32)", ErrRefused)
	}
	facts := object{}
	for _, f := range m.Facts {
		facts[f[0]] = f[1]
	}
	data := object{"approval": m.Approval, "state": m.State, "title": m.Title, "facts": facts}
	if m.Link != "" {
		data["link"] = m.Link
	}
	if m.Statement != "" {
		data["statement"] = m.Statement
	}
	body, err := json.Marshal(object{"type": "approval." + m.Event, "timestamp": m.At.UTC().Format(time.RFC3339), "data": data})
	if err != nil {
		return fmt.Errorf("write webhook: %w", err)
	}
	now := w.Now()
	signature, err := hook.Sign(m.ID, now, body)
	if err != nil {
		return errors.New("sign webhook: it failed")
	}
	return post(ctx, w.Client, w.URL, body, http.Header{
		"Webhook-Id": {m.ID}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {signature},
	})
}
