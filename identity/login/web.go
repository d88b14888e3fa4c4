package login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Attempt is what ties the answer of an issuer to the browser that was sent
// there. It is kept where only that browser and who sent it can read it.
type Attempt struct {
	// State comes back with the answer (RFC 6749, section 10.12).
	State string
	// Nonce comes back in the ID token (OpenID Connect Core 1.0, section 15.5.2).
	Nonce string
	// Verifier goes with the code (RFC 7636).
	Verifier string
}

func newAttempt() Attempt {
	return Attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
}

// is reports whether an answer carries the attempt's state.
func (a *Attempt) is(answer url.Values) bool {
	return a.State != "" && subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(a.State)) == 1
}

// Begin begins the authorization code flow with PKCE for a web server, whose
// address redirect is registered with the issuer. It returns the page to send
// the browser to.
func (c *Client) Begin(ctx context.Context, redirect string) (page string, a Attempt, err error) {
	_, e, err := c.discover(ctx)
	if err != nil {
		return "", a, err
	}
	e.config.RedirectURL = redirect
	a = newAttempt()
	return e.page(&a), a, nil
}

// Finish takes the answer with which the browser came back to redirect.
func (c *Client) Finish(ctx context.Context, redirect string, a Attempt, answer url.Values) (*Login, error) {
	if !a.is(answer) {
		return nil, errors.New("log in: the answer is not one to this browser's question")
	}
	ctx, e, err := c.discover(ctx)
	if err != nil {
		return nil, err
	}
	e.config.RedirectURL = redirect
	return e.finish(ctx, &a, answer)
}

// page is where a browser is sent to.
func (e *endpoints) page(a *Attempt) string {
	return e.config.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier), e.audienceOption())
}

// finish takes an answer that carries the attempt's state.
func (e *endpoints) finish(ctx context.Context, a *Attempt, answer url.Values) (*Login, error) {
	switch code, refused, iss := answer.Get("code"), answer.Get("error"), answer.Get("iss"); {
	case iss != "" && iss != e.client.Issuer:
		return nil, errors.New("log in: the answer is of another issuer (RFC 9207); log in again")
	case refused != "":
		return nil, fmt.Errorf("log in: the issuer says %s: %s", printable(refused), printable(answer.Get("error_description")))
	case code == "":
		return nil, errors.New("log in: the issuer sent the browser back without a code")
	default:
		return e.exchange(ctx, a, code)
	}
}

// exchange turns the code into tokens, and holds the ID token to this attempt.
func (e *endpoints) exchange(ctx context.Context, a *Attempt, code string) (*Login, error) {
	t, err := e.config.Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, fmt.Errorf("log in: exchange the code: %w", describe(err))
	}
	raw, _ := t.Extra("id_token").(string)
	idToken, err := e.provider.VerifierContext(ctx, &oidc.Config{ClientID: e.client.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, errors.New("log in: the issuer's ID token does not verify; is its clock right, and openid among the scopes?")
	}
	if subtle.ConstantTimeCompare([]byte(idToken.Nonce), []byte(a.Nonce)) != 1 {
		return nil, errors.New("log in: the issuer's ID token is of another login; log in again")
	}
	return e.login(t)
}
