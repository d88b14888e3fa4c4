package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackutilsx"
)

// Slack posts to an incoming webhook, with a button that opens the approval
// (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
type Slack struct {
	Client  *http.Client
	Webhook Secret // its URL
	// Signing is the app's signing secret; nil: Slack sends nothing here.
	Signing Secret
}

// Send is of Sender. Everything is in plain_text objects, in which Slack sees
// no link and no mention.
func (s *Slack) Send(ctx context.Context, m *Message) error {
	to, err := address(ctx, s.Webhook)
	if err != nil {
		return err
	}
	text := func(t string) *slack.TextBlockObject {
		return slack.NewTextBlockObject(slack.PlainTextType, t, false, false)
	}
	blocks := []slack.Block{slack.NewHeaderBlock(text(plain(m.Title, 150)))}
	var fields []*slack.TextBlockObject
	for _, f := range m.Facts[:min(len(m.Facts), 10)] {
		fields = append(fields, text(f[0]+": "+f[1]))
	}
	blocks = append(blocks, slack.NewSectionBlock(nil, fields, nil))
	if m.Statement != "" {
		blocks = append(blocks, slack.NewSectionBlock(text(m.Statement), nil, nil))
	}
	if m.Link != "" {
		open := slack.NewButtonBlockElement("open", m.Approval, text("Sign in and answer"))
		open.URL = m.Link
		blocks = append(blocks, slack.NewActionBlock("approval", open))
	}
	no := false
	body, err := json.Marshal(&slack.WebhookMessage{
		// What a notification shows. Escaped, it holds no link and no mention.
		Text: slackutilsx.EscapeMessage(m.Title), Blocks: &slack.Blocks{BlockSet: blocks}, UnfurlLinks: &no, UnfurlMedia: &no,
	})
	if err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return post(ctx, s.Client, to, body, nil)
}

// ErrForged is the error of a request that says that it is Slack's, and is not
// shown to be.
var ErrForged = errors.New("the request is not signed by Slack, or is too old")

// VerifySlack reports whether a request that says that it is Slack's is so, and
// fresh (https://docs.slack.dev/authentication/verifying-requests-from-slack).
// Nothing is done for such a request but that it is answered: a button opens
// the approval, where one signs in. Who a Slack account belongs to is Slack's
// to say, and not the issuer's.
func (n *Notifier) VerifySlack(ctx context.Context, header http.Header, body []byte) error {
	for _, c := range n.o.Channels() {
		s, ok := c.Sender.(*Slack)
		if !ok || s.Signing == nil {
			continue
		}
		secret, err := s.Signing(ctx)
		if err != nil {
			return fmt.Errorf("verify request of Slack: %w", err)
		}
		v, err := slack.NewSecretsVerifier(header, secret)
		if err != nil {
			continue
		}
		v.Write(body) // a hash takes everything
		if v.Ensure() == nil {
			return nil
		}
	}
	return ErrForged
}
