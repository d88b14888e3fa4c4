package ticket

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Client asks a gateway for tickets.
type Client struct {
	URL  string
	HTTP *http.Client
}

// Wanted is what a client asks for.
type Wanted struct {
	// Subject is the token, and Actor, where there is one, that of who acts for
	// its caller.
	Subject, Actor string
	Connection     string
	// Source is the one address from which the ticket is good: an IP address, or
	// "self". Empty: any.
	Source string
	// SkillDigest is what the folder is of the skill that the ticket is for.
	SkillDigest string
}

// Exchange gets a ticket for a token. What the gateway refuses is a *Failure.
func (c *Client) Exchange(ctx context.Context, w Wanted) (*Answer, error) {
	form := url.Values{"grant_type": {GrantType}, "subject_token": {w.Subject}, "subject_token_type": {JWT}, "audience": {w.Connection}}
	if w.Actor != "" {
		form.Set("actor_token", w.Actor)
		form.Set("actor_token_type", JWT)
	}
	if w.Source != "" {
		form.Set("source", w.Source)
	}
	if w.SkillDigest != "" {
		form.Set("skill_digest", w.SkillDigest)
	}
	a := new(Answer)
	if err := c.post(ctx, TokenPath, form, a); err != nil {
		return nil, fmt.Errorf("get ticket: %w", err)
	}
	return a, nil
}

// Revoke gives a ticket back.
func (c *Client) Revoke(ctx context.Context, raw string) error {
	if err := c.post(ctx, RevokePath, url.Values{"token": {raw}}, &struct{}{}); err != nil {
		return fmt.Errorf("revoke ticket: %w", err)
	}
	return nil
}

func (c *Client) post(ctx context.Context, path string, form url.Values, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := json.NewDecoder(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusOK {
		f := &Failure{status: resp.StatusCode}
		if body.Decode(f) != nil || f.Code == "" {
			return fmt.Errorf("the gateway answered %s; is its version too old?", resp.Status)
		}
		return f
	}
	if err := body.Decode(answer); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}
