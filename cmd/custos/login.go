package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/identity/login"
)

// loginFlags say how to log in.
type loginFlags struct {
	login.Discovery
	device    bool
	tokenFile string
	open      func(url string) error // instead of the desktop's browser
}

// newLoginCommand returns `custos login`.
func newLoginCommand(g *globals) *cobra.Command {
	f := &loginFlags{}
	c := &cobra.Command{
		Use:   "login",
		Short: "Log in with a browser, a code, or a workload's own token",
		Long: "Log in at the identity provider that the gateway at --url names, or at --issuer.\n\n" +
			"The token is kept, for you only, in the folder custos of your configuration folder,\n" +
			"and renewed when it is needed. CUSTOS_TOKEN, where it is set, goes before it.",
		Example: "  custos login --url https://gw:8443\n" +
			"  custos login --url https://gw:8443 --device\n" +
			"  custos login --url https://gw:8443 --token-file /var/run/secrets/tokens/custos",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLogin(cmd.Context(), g, f) },
	}
	flags := c.Flags()
	flags.BoolVar(&f.device, "device", false, "enter a code in a browser on any machine")
	flags.StringVar(&f.tokenFile, "token-file", "", "use the token in this `file`, read anew each time")
	flags.StringVar(&f.Issuer, "issuer", "", "the identity provider's `URL`, instead of the one that the gateway names")
	flags.StringVar(&f.ClientID, "client-id", "", "the public client registered there for custos")
	flags.StringVar(&f.Audience, "audience", "", "what tokens must be for, where that is not the client")
	flags.StringSliceVar(&f.Scopes, "scopes", nil, "what to ask for (default openid,profile,offline_access)")
	return c
}

// check says what of the flags does not go together.
func (f *loginFlags) check(g *globals) error {
	wrong := ""
	switch {
	case f.tokenFile != "" && (f.device || f.Issuer != "" || f.ClientID != ""):
		wrong = "--token-file is a login of its own: leave out --device, --issuer and --client-id"
	case (f.Issuer == "") != (f.ClientID == ""):
		wrong = "--issuer and --client-id go together"
	case f.tokenFile == "" && f.Issuer == "" && g.url == "":
		wrong = "where? set --url or CUSTOS_URL to the gateway, or --issuer and --client-id"
	default:
		return nil
	}
	return &exitError{exitUsage, errors.New("log in: " + wrong)}
}

func runLogin(ctx context.Context, g *globals, f *loginFlags) error {
	if err := f.check(g); err != nil {
		return err
	}
	store, err := login.DefaultStore()
	if err != nil {
		return err
	}
	l, err := f.logIn(ctx, g)
	if err != nil {
		return err
	}
	l.Gateway = strings.TrimSuffix(g.url, "/")
	if err := store.Put(l); err != nil {
		return err
	}
	token := l.Bearer
	if l.TokenFile != "" {
		if token, err = login.ReadToken(l.TokenFile); err != nil {
			return err
		}
	}
	return g.printLogin(token)
}

// logIn gets a login as the flags say.
func (f *loginFlags) logIn(ctx context.Context, g *globals) (*login.Login, error) {
	if f.tokenFile != "" {
		file, err := filepath.Abs(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("find token file: %w", err)
		}
		_, err = login.ReadToken(file)
		return &login.Login{TokenFile: file}, err
	}
	if f.Issuer == "" {
		if err := f.askGateway(ctx, g); err != nil {
			return nil, err
		}
	}
	client, err := login.HTTPClient(g.ca)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	c := &login.Client{Discovery: f.Discovery, HTTP: client, Out: g.stderr, Open: f.open}
	if f.device {
		return c.Device(ctx)
	}
	return c.Browser(ctx)
}

// askGateway fills in what the gateway says and the flags don't.
func (f *loginFlags) askGateway(ctx context.Context, g *globals) error {
	client, err := g.newHTTPClient()
	if err != nil {
		return err
	}
	ctx, cancel := asked(ctx)
	defer cancel()
	d, err := login.Discover(ctx, client, g.url)
	if err != nil {
		return explain(err)
	}
	if f.Audience != "" {
		d.Audience = f.Audience
	}
	if len(f.Scopes) > 0 {
		d.Scopes = f.Scopes
	}
	f.Discovery = d
	return nil
}

// printLogin says who logged in. A token that only the gateway can read is as
// good: it is shown by its absence.
func (g *globals) printLogin(token string) error {
	p, err := identity.Peek(token)
	if err != nil {
		_, err = fmt.Fprintln(g.stdout, "Logged in, with a token that only the gateway can read.")
		return err
	}
	if g.json {
		return g.printJSON(p)
	}
	_, err = fmt.Fprintf(g.stdout, "Logged in as %s at %s, until %s.\n", export.Line(p.Name), export.Line(p.Issuer), localTime(p.Expires))
	return err
}

// bearer returns the token for requests to the gateway: CUSTOS_TOKEN, else
// that of the login kept for it, renewed if need be.
func (g *globals) bearer(ctx context.Context) (string, error) {
	if g.token != "" {
		return g.token, nil
	}
	store, err := login.DefaultStore()
	if err != nil {
		return "", err
	}
	token, err := store.Bearer(ctx, g.url, func() (*http.Client, error) { return login.HTTPClient(g.ca) })
	if errors.Is(err, login.ErrNone) && g.url != "" {
		return "", fmt.Errorf("%w --url %s", err, g.url)
	}
	return token, err
}
