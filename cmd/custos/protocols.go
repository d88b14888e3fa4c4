package main

import (
	"context"
	"net/http"
	"sync"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/protocol/git"
	web "github.com/custos-gateway/custos/protocol/http"
	"github.com/custos-gateway/custos/protocol/kubernetes"
	"github.com/custos-gateway/custos/protocol/postgres"
	"github.com/custos-gateway/custos/server"
	"github.com/custos-gateway/custos/sql"
)

// protocols is the table of protocols: one line each.
var protocols = []server.Protocol{
	{Name: postgres.Name, Address: func(c *config.Config) string { return c.Listen.Postgres }, New: newPostgres, Render: postgres.Render, Operation: postgresOperation, Client: postgres.Client},
	{Name: web.Name, Prefix: web.Prefix, HTTP: newHTTP, Render: web.Render, Operation: web.Operation, Client: web.Client},
	{Name: git.Name, Prefix: git.Prefix, HTTP: newGit, Render: git.Render, Operation: git.Statement, Client: git.Client},
	{Name: kubernetes.Name, Prefix: kubernetes.Prefix, HTTP: newKubernetes, Render: kubernetes.Render, Operation: kubernetes.Operation, Client: kubernetes.Client},
}

// newPostgres joins the PostgreSQL protocol to the parser of its statements,
// which is warmed up while the gateway starts.
func newPostgres(f server.Front) server.Service {
	parser := sql.NewPostgres(sql.Limits{})
	go func() {
		if err := parser.Warm(); err != nil {
			f.Logger.Error("warm up parser", "cause", err)
		}
	}()
	return postgres.New(postgres.Options{
		Gate: f.Gate, Dialer: f.Dialer, TLS: f.TLS, Logger: f.Logger, PreAuthTimeout: f.PreAuthTimeout, IdleTimeout: f.IdleTimeout,
		Parse: parser.Parse, Catalogs: f.Rules, MaskKey: f.MaskKey, Link: f.Link,
	})
}

var postgresParser = sync.OnceValue(func() *sql.Postgres { return sql.NewPostgres(sql.Limits{}) })

// postgresOperation is what a text of SQL does, to a database of which nothing
// is known.
func postgresOperation(text string) (*custos.Operation, error) {
	t, err := postgresParser().Parse(text, nil)
	if err != nil {
		return nil, err
	}
	return &custos.Operation{Class: "Query", Text: text, Verbs: t.Verbs, Objects: t.Objects, Writes: t.Writes, Facts: &t.Facts}, nil
}

func newHTTP(ctx context.Context, f server.Front) http.Handler {
	return web.New(ctx, web.Options{Gate: f.Gate, Dialer: f.Dialer, Logger: f.Logger, MaskKey: f.MaskKey, Temp: f.Temp, Idle: f.IdleTimeout, Link: f.Link})
}

func newGit(ctx context.Context, f server.Front) http.Handler {
	return git.New(ctx, git.Options{Gate: f.Gate, Dialer: f.Dialer, Logger: f.Logger, Temp: f.Temp, Idle: f.IdleTimeout, Link: f.Link})
}

func newKubernetes(ctx context.Context, f server.Front) http.Handler {
	return kubernetes.New(ctx, kubernetes.Options{Gate: f.Gate, Dialer: f.Dialer, Logger: f.Logger, MaskKey: f.MaskKey, Idle: f.IdleTimeout})
}
