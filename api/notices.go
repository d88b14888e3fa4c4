package api

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/custos-gateway/custos/approval/notify"
)

// Notices are what people are told of approvals.
type Notices interface {
	// Undelivered lists the messages that were given up, Again sends them once
	// more and returns how many these are.
	Undelivered() []notify.Undelivered
	Again() int
	// VerifySlack reports whether a request that says it is Slack's is so.
	VerifySlack(ctx context.Context, header http.Header, body []byte) error
}

// listUndelivered lists the messages that were given up, to those who see
// everything.
func (s *server) listUndelivered(w http.ResponseWriter, r *http.Request) error {
	if !s.seesAll(caller(r.Context())) {
		return problem(http.StatusForbidden, "it is shown to admins and auditors")
	}
	return writeJSON(w, Page[notify.Undelivered]{Items: append([]notify.Undelivered{}, s.Notices.Undelivered()...)})
}

// Again says how many messages are sent once more.
type Again struct {
	Messages int `json:"messages"`
}

func (s *server) sendAgain(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, Again{s.Notices.Again()})
}

// slack takes what Slack sends when somebody presses a button of a message. The
// button is a link: who follows it signs in, and answers there. So nothing is
// done here, whoever asks; Slack wants to be answered.
func (s *server) slack(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		writeProblem(w, problem(http.StatusBadRequest, "the body cannot be read"))
		return
	}
	switch err := s.Notices.VerifySlack(r.Context(), r.Header, body); {
	case errors.Is(err, notify.ErrForged):
		s.Logger.Warn("request of Slack refused", "client", r.RemoteAddr, "cause", err)
		writeProblem(w, problem(http.StatusUnauthorized, err.Error()))
	case err != nil:
		s.Logger.Error("verify request of Slack", "cause", err)
		writeProblem(w, problem(http.StatusServiceUnavailable, "it cannot be verified now"))
	}
}

// Undelivered lists the messages on approvals that were given up.
func (c *Client) Undelivered(ctx context.Context) ([]notify.Undelivered, error) {
	var page Page[notify.Undelivered]
	err := c.get(ctx, "/api/v1/approvals/undelivered", nil, &page)
	return page.Items, err
}

// SendAgain sends them once more, and returns how many these are.
func (c *Client) SendAgain(ctx context.Context) (int, error) {
	var again Again
	err := c.post(ctx, "/api/v1/approvals/undelivered/again", struct{}{}, &again)
	return again.Messages, err
}
