package oidctest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"testing"

	"golang.org/x/oauth2"
)

// native is a relying party as others write it.
func native(p *Provider) *oauth2.Config {
	return &oauth2.Config{ClientID: ClientID, RedirectURL: "http://127.0.0.1:1/callback", Scopes: []string{"openid", "offline_access", "groups"},
		Endpoint: oauth2.Endpoint{AuthURL: p.URL + "/authorize", TokenURL: p.URL + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams}}
}

// authorize logs a user in at the page and returns what the browser is sent
// back with.
func authorize(t *testing.T, page, user string) url.Values {
	t.Helper()
	var back *url.URL
	browser := &http.Client{CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if req.URL.Host == "127.0.0.1:1" {
			back = req.URL
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := browser.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	html, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	if id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindSubmatch(html); id != nil {
		resp, err := browser.PostForm(resp.Request.URL.String(), url.Values{"id": {string(id[1])}, "user": {user}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if back == nil {
		t.Fatalf("the browser was not sent back: %s", html)
	}
	return back.Query()
}

// mustBeRefused fails the test unless the token endpoint said code.
func mustBeRefused(t *testing.T, what string, err error, code string) {
	t.Helper()
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) || refused.ErrorCode != code {
		t.Errorf("%s: %v; want %s", what, err, code)
	}
}

func TestCodeFlow(t *testing.T) {
	p, ctx := start(t), context.Background()
	config := native(p)
	verifier := oauth2.GenerateVerifier()
	ask := func() string {
		answer := authorize(t, config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), "bob")
		if answer.Get("state") != "s" || answer.Get("code") == "" {
			t.Fatalf("the browser was sent back with %v", answer)
		}
		return answer.Get("code")
	}

	code := ask()
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	idToken, _ := token.Extra("id_token").(string)
	for _, raw := range []string{token.AccessToken, idToken} {
		if claims := check(t, p, raw); claims["sub"] != "bob" || claims["preferred_username"] != "bob" || claims["groups"] == nil {
			t.Errorf("%v", claims)
		}
	}
	_, err = config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	mustBeRefused(t, "a code used twice", err, "invalid_grant")
	_, err = config.Exchange(ctx, ask(), oauth2.VerifierOption(oauth2.GenerateVerifier()))
	mustBeRefused(t, "another verifier", err, "invalid_grant")
	_, err = config.Exchange(ctx, ask())
	if err == nil {
		t.Error("a code was exchanged with no verifier")
	}
	for name, page := range map[string]string{"no challenge": config.AuthCodeURL("s"),
		"a plain challenge": config.AuthCodeURL("s", oauth2.SetAuthURLParam("code_challenge", verifier), oauth2.SetAuthURLParam("code_challenge_method", "plain"))} {
		if answer := authorize(t, page, "bob"); answer.Get("error") != "invalid_request" || answer.Get("code") != "" {
			t.Errorf("%s: %v", name, answer)
		}
	}
}

func TestRefreshTokenIsGoodOnce(t *testing.T) {
	p, ctx := start(t), context.Background()
	config := native(p)
	verifier := oauth2.GenerateVerifier()
	answer := authorize(t, config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), "ana")
	first, err := config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	refresh := func(token string) (*oauth2.Token, error) {
		return config.TokenSource(ctx, &oauth2.Token{RefreshToken: token}).Token()
	}
	second, err := refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if claims := check(t, p, second.AccessToken); claims["sub"] != "ana" || second.RefreshToken == first.RefreshToken {
		t.Errorf("%v", claims)
	}
	_, err = refresh(first.RefreshToken)
	mustBeRefused(t, "a refresh token used twice", err, "invalid_grant")
	if _, err := refresh(second.RefreshToken); err != nil {
		t.Error(err)
	}
}

// TestOnlyTheSkillExchanges: people's public client gets no token in which it
// acts for somebody.
func TestOnlyTheSkillExchanges(t *testing.T) {
	p := start(t)
	resp, err := http.PostForm(p.URL+"/oauth/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {ClientID}, "audience": {Audience},
		"subject_token": {p.Mint("ana")}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); resp.StatusCode < 400 || err != nil {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
