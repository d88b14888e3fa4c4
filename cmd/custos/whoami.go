package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/identity"
)

// newWhoamiCommand returns `custos whoami`.
func newWhoamiCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Say whom the gateway takes you for",
		Long:  "Say whom the gateway at --url takes you for. Without --url, say what your token claims,\nwhich nobody has verified.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.url == "" {
				return g.printClaims(cmd.Context())
			}
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			who, err := client.WhoAmI(ctx)
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(who)
			}
			return g.printPrincipal(&who.Principal, "")
		},
	}
}

// printClaims prints what one's own token says.
func (g *globals) printClaims(ctx context.Context) error {
	token, err := g.bearer(ctx)
	if err != nil {
		return err
	}
	p, err := identity.Peek(token)
	if err != nil {
		return fmt.Errorf("read your token: %w; to ask the gateway, set --url", err)
	}
	if g.json {
		return g.printJSON(struct {
			*custos.Principal
			Unverified bool `json:"unverified"`
		}{p, true})
	}
	return g.printPrincipal(p, " (unverified: it is what the token says; set --url to ask the gateway)")
}

// printPrincipal prints a caller for people to read.
func (g *globals) printPrincipal(p *custos.Principal, remark string) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-13s %s\n", name, export.Line(value))
		}
	}
	fmt.Fprintf(&b, "%s%s\n", export.Line(p.Name), remark)
	line("kind", string(p.Kind))
	if p.Skill != nil {
		line("skill", p.Skill.Name)
	}
	line("groups", strings.Join(p.Groups, ", "))
	line("subject", p.Subject)
	line("issuer", p.Issuer)
	if on := p.OnBehalfOf; on != nil {
		line("on behalf of", on.Name+", "+on.Subject+" at "+on.Issuer)
	}
	if !p.Expires.IsZero() {
		line("until", localTime(p.Expires))
	}
	_, err := io.WriteString(g.stdout, b.String())
	return err
}
