package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	yaml "go.yaml.in/yaml/v4"

	"github.com/custos-gateway/custos/api"
)

func newSkillCommand(g *globals) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "skill NAME... --out DIR",
		Short: "Teach a Claude skill to use connections; register skills",
		Long: "Write a Claude Code plugin that teaches Claude to use the connections named, by its ordinary\n" +
			"tools, and what to do when it is refused or held. There is no secret in it.\n\n" +
			"The commands below register skills, for administrators: who they are, which connections they may\n" +
			"use, until when, and what their folder is.",
		Example: "  custos skill orders billing --out ./custos-plugin && claude --plugin-dir ./custos-plugin",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && out == "":
				return cmd.Help()
			case len(args) == 0:
				return &exitError{exitUsage, errors.New("write plugin: name the connections; custos connection list shows yours")}
			case out == "":
				return &exitError{exitUsage, errors.New("write plugin: say where to, with --out DIR")}
			}
			return g.writePlugin(cmd.Context(), args, out)
		},
	}
	c.Flags().StringVar(&out, "out", "", "the `DIR` of the plugin; it is made if it is not there")
	c.AddCommand(newSkillAdd(g), newSkillList(g), newSkillShow(g), newSkillRemove(g), newSkillDigest(g))
	return c
}

func oneSkill(_ *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" || strings.ContainsAny(args[0], "/?#") {
		return &exitError{exitUsage, errors.New("name one skill; custos skill list shows those that there are")}
	}
	return nil
}

// skillDefinition is a skill as the configuration file has it.
type skillDefinition struct {
	Match struct {
		Issuer  string            `yaml:"issuer"`
		Subject string            `yaml:"subject,omitempty"`
		Claims  map[string]string `yaml:"claims,omitempty"`
	} `yaml:"match"`
	Owner       string   `yaml:"owner,omitempty"`
	Connections []string `yaml:"connections"`
	OnBehalfOf  []string `yaml:"on_behalf_of,omitempty"`
	Expires     string   `yaml:"expires,omitempty"`
	Digest      string   `yaml:"digest,omitempty"`
}

func newSkillAdd(g *globals) *cobra.Command {
	var d skillDefinition
	var file, folder string
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Register a skill, or replace one that was added so",
		Long: "Register a skill, or replace one that was added so: who it is, and what it is held to. What is\n" +
			"added here lies in the gateway's data folder beside the configuration file, and every change is\n" +
			"on record. Policies stay in the configuration: rules know the skill as caller.skill.",
		Example: "  custos skill add reporter --issuer https://id.example.com --subject skill:reporter \\\n" +
			"      --connections orders,billing --owner ana@example.com --expires 2027-01-31 --folder ~/.claude/skills/reporter",
		Args: oneSkill,
		RunE: func(cmd *cobra.Command, args []string) error {
			if folder != "" {
				digest, err := folderDigest(folder)
				if err != nil {
					return err
				}
				d.Digest = digest
			}
			definition, err := yaml.Marshal(d)
			if err != nil {
				return fmt.Errorf("write definition: %w", err)
			}
			if file != "" {
				if definition, err = g.readDefinition(file); err != nil {
					return err
				}
			}
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			one, err := client.PutSkill(ctx, args[0], definition)
			if err != nil {
				return explain(err)
			}
			return g.printSkill(one)
		},
	}
	f := c.Flags()
	f.StringVar(&d.Match.Issuer, "issuer", "", "the issuer of its tokens")
	f.StringVar(&d.Match.Subject, "subject", "", "a `PATTERN` for its sub claim; * stands for any characters")
	f.StringToStringVar(&d.Match.Claims, "claim", nil, "patterns for further claims, as `CLAIM=PATTERN`")
	f.StringVar(&d.Owner, "owner", "", "who answers for it")
	f.StringSliceVar(&d.Connections, "connections", nil, "the connections that it may use")
	f.StringSliceVar(&d.OnBehalfOf, "on-behalf-of", nil, "`GROUPS` of people for whom it may act")
	f.StringVar(&d.Expires, "expires", "", "the `DAY` from which on it is let in no more")
	f.StringVar(&d.Digest, "digest", "", "what its folder must be, as custos skill digest prints it")
	f.StringVar(&folder, "folder", "", "the `DIR` to take the digest of")
	f.StringVar(&file, "file", "", "the `FILE` with its definition in YAML, in place of these flags; - is standard input")
	c.MarkFlagsMutuallyExclusive("digest", "folder", "file")
	for _, other := range []string{"issuer", "subject", "claim", "owner", "connections", "on-behalf-of", "expires"} {
		c.MarkFlagsMutuallyExclusive("file", other)
	}
	return c
}

// readDefinition reads a definition from a file, or from standard input.
func (g *globals) readDefinition(file string) ([]byte, error) {
	from := g.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("read definition: %w", err)}
		}
		defer f.Close()
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, maxDefinition))
	if err != nil {
		return nil, fmt.Errorf("read definition: %w", err)
	}
	return b, nil
}

func newSkillList(g *globals) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the registered skills; for administrators", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			all, err := client.Skills(ctx)
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(all)
			}
			t := newTable(g.stdout, "NAME", "CONNECTIONS", "OWNER", "EXPIRES", "FOLDER")
			for _, s := range all {
				folder := "any"
				if s.Digest != "" {
					folder = s.Digest[:min(len(s.Digest), len("sha256:")+12)]
				}
				t.add(s.Name, strings.Join(s.Connections, ", "), s.Owner, expiry(&s), folder)
			}
			return t.print(g.stdout)
		}}
}

func expiry(s *api.RegisteredSkill) string {
	if s.Expires == nil {
		return "never"
	}
	return s.Expires.Format(time.RFC3339)
}

func newSkillShow(g *globals) *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "Show a registered skill; for administrators", Args: oneSkill,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			one, err := client.Skill(ctx, args[0])
			if err != nil {
				return explain(err)
			}
			return g.printSkill(one)
		}}
}

func (g *globals) printSkill(s *api.RegisteredSkill) error {
	if g.json {
		return g.printJSON(s)
	}
	t := &table{}
	line := func(name, value string) {
		if value != "" {
			t.add(name, value)
		}
	}
	line("skill", s.Name)
	line("issuer", s.Issuer)
	line("subject", s.Subject)
	var claims []string
	for name, pattern := range s.Claims {
		claims = append(claims, name+"="+pattern)
	}
	slices.Sort(claims)
	line("claims", strings.Join(claims, ", "))
	line("owner", s.Owner)
	line("connections", strings.Join(s.Connections, ", "))
	line("on behalf of", strings.Join(s.OnBehalfOf, ", "))
	line("expires", expiry(s))
	line("folder", s.Digest)
	from := "the configuration file"
	if s.Managed {
		from = "added at run time"
	}
	line("from", from)
	return t.print(g.stdout)
}

func newSkillRemove(g *globals) *cobra.Command {
	return &cobra.Command{Use: "remove NAME", Short: "Let a registered skill in no more; its record stays", Args: oneSkill,
		Long: "Let a registered skill in no more. What its sessions ask from now on is refused. New sessions are\n" +
			"those of a caller that is not registered: take its groups away too, or its access.",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			if err := client.RemoveSkill(ctx, args[0]); err != nil {
				return explain(err)
			}
			_, err = fmt.Fprintf(g.stderr, "Removed %s.\n", args[0])
			return err
		}}
}
