// Package config turns one YAML file into one typed, validated Config. The
// documentation of its types is the manual: docs/config.md, the JSON Schema
// and `custos config explain` are made from it.
//
// It is strict: an unknown key, a value of the wrong form, or a setting that
// contradicts another is an error with its line and column, and all of them
// are reported at once. It holds no secret, only where secrets lie.
package config

import (
	"time"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
)

// Config is the whole configuration of a gateway.
type Config struct {
	// Where the gateway listens.
	Listen Listen `yaml:"listen" jsonschema:"required"`
	// The certificate that the gateway shows to its callers. Absent: one
	// issued by a private CA whose certificate is data_dir/tls/ca.pem.
	TLS *ServerTLS `yaml:"tls"`
	// The folder of the ledger, recordings, keys and index. A relative path
	// is taken from the configuration file's folder, as all paths are.
	DataDir string `yaml:"data_dir" jsonschema:"default=custos-data"`
	// The OpenID providers whose tokens are accepted.
	Issuers []Issuer `yaml:"issuers" jsonschema:"required"`
	// Who may do what on the gateway itself. Everyone sees their own sessions.
	Roles Roles `yaml:"roles"`
	// The targets that callers may reach.
	Connections []Connection `yaml:"connections"`
	// The agents in targets' networks, which dial out to listen.https and reach
	// what the gateway cannot. docs/agent.md says how to run one.
	Agents []Agent `yaml:"agents"`
	// Skills that are known by name, in addition to being let in by groups.
	Skills []Skill `yaml:"skills"`
	// The rules by which operations are judged. Absent: what access admits may
	// do anything.
	Policies []PolicyItem `yaml:"policies"`
	// How people are asked about held operations.
	Approvals Approvals `yaml:"approvals"`
	// Channels over which people are told of approvals.
	Notify []Notify `yaml:"notify"`
	// The address at which people reach the console and the API: links in
	// messages and notices begin with it.
	URL string `yaml:"url" jsonschema:"example=https://gw.example.com:8443"`
	// Bounds on what callers may take of the gateway.
	Limits Limits `yaml:"limits"`
	// The tamper-evident log.
	Ledger Ledger `yaml:"ledger"`
	// A HashiCorp Vault or OpenBao server that has secrets.
	Vault *Vault `yaml:"vault"`
	// How secrets are encrypted that are kept in data_dir.
	Stored StoredSecrets `yaml:"stored"`

	// Raw is the file as it was read, and what was added at run time as a
	// second document. It holds no secret, so it is kept in the ledger as it is.
	Raw []byte `yaml:"-"`
	// Rules are those of Policies, sets that are shipped included, and Policy
	// is made of them.
	Rules  []policy.Rule  `yaml:"-"`
	Policy *policy.Policy `yaml:"-"`
	// Warnings are settings that are valid and probably not meant.
	Warnings Errors `yaml:"-"`
}

// Listen says where the gateway listens: host:port each, at least one. Every
// listener speaks TLS.
type Listen struct {
	// Console, API and what is spoken over HTTP.
	HTTPS string `yaml:"https" jsonschema:"example=127.0.0.1:8443"`
	// The PostgreSQL protocol.
	Postgres string `yaml:"postgres" jsonschema:"example=127.0.0.1:15432"`
}

// ServerTLS is the certificate that the gateway shows to its callers.
type ServerTLS struct {
	// A file of PEM certificates, the gateway's own first.
	Certificate string `yaml:"certificate" jsonschema:"required"`
	// A file with the certificate's private key in PEM.
	Key string `yaml:"key" jsonschema:"required"`
}

// Issuer is an OpenID provider whose tokens are accepted.
type Issuer struct {
	// The issuer's URL, exactly as it stands in the iss claim. http is taken
	// on loopback only.
	URL string `yaml:"url" jsonschema:"required,example=https://id.example.com"`
	// What a token's aud claim must contain.
	Audience string `yaml:"audience" jsonschema:"required,example=custos"`
	// The claim that lists the caller's groups.
	GroupsClaim string `yaml:"groups_claim" jsonschema:"default=groups"`
	// Put before each group of the claim, so that this issuer cannot speak of
	// another's groups.
	GroupsPrefix string `yaml:"groups_prefix" jsonschema:"example=ci:"`
	// Groups that every caller of this issuer is in, without the prefix.
	Groups []string `yaml:"groups"`
	// Claims that must be there, each with one of the values listed. It is
	// what makes a public issuer safe to trust: anybody can get a token of
	// such an issuer for any audience.
	Require map[string][]string `yaml:"require"`
	// The clients (azp) whose tokens are accepted. Absent: any, of tokens with
	// this one audience.
	AuthorizedParties []string `yaml:"authorized_parties"`
	// The claim with the caller's name for people to read. It never authorises.
	NameClaim string `yaml:"name_claim" jsonschema:"default=preferred_username"`
	// What sort of caller this issuer's tokens stand for.
	Kind string `yaml:"kind" jsonschema:"default=person,enum=person,enum=skill,enum=ci,enum=workload"`
	// A claim that says the kind token by token; where a token lacks it, kind
	// holds.
	KindClaim string `yaml:"kind_claim"`
	// What the values of that claim stand for; a value that is not here is
	// refused. Absent: the values are the kinds' own names.
	Kinds map[string]string `yaml:"kinds"`
	// Issuers, besides this one, that the act claim (RFC 8693, section 4.1) may
	// name as the actor's.
	ActorIssuers []string `yaml:"actor_issuers"`
	// The signature algorithms (RFC 7518, section 3.1) that are accepted.
	// Absent: RS256 and ES256.
	Algorithms []string `yaml:"algorithms" jsonschema:"enum=RS256,enum=RS384,enum=RS512,enum=PS256,enum=PS384,enum=PS512,enum=ES256,enum=ES384,enum=ES512,enum=EdDSA"`
	// A file of PEM certificates to trust for this issuer, in place of the
	// system's roots.
	CAFile string `yaml:"ca_file"`
	// Where the signing keys are, in place of what discovery says.
	JWKSURL string `yaml:"jwks_url"`
	// Where the discovery document is, in place of the issuer's own address.
	DiscoveryURL string `yaml:"discovery_url"`
	// A file with a bearer token for the discovery and key requests, as a
	// Kubernetes API server wants one.
	TokenFile string `yaml:"token_file"`
	// The public client that custos login uses at this issuer. Absent:
	// nobody logs in here with custos login. The console uses it too, unless
	// console says otherwise.
	ClientID string `yaml:"client_id"`
	// The scopes that custos login asks for. Absent: openid, profile and
	// offline_access.
	Scopes []string `yaml:"scopes"`
	// The client that people sign in to the console with, where it is not
	// client_id.
	Console *ConsoleClient `yaml:"console"`
}

// Roles says which groups may do what on the gateway itself.
type Roles struct {
	// Groups that manage connections, end sessions and see everything.
	Admin []string `yaml:"admin"`
	// Groups that answer held operations.
	Reviewer []string `yaml:"reviewer"`
	// Groups that see and export every session.
	Auditor []string `yaml:"auditor"`
}

// Connection is a target that callers may reach.
type Connection struct {
	// What callers put where their client names its database or path:
	// lower-case letters, digits, - and _, at most 63.
	Name string `yaml:"name" jsonschema:"required,example=orders"`
	// The target's protocol.
	Protocol string `yaml:"protocol" jsonschema:"required,example=postgres"`
	// The target's host:port. Of a target that speaks HTTP also its URL, such as
	// https://api.example.com/v2: callers reach what is below it. http is taken on
	// loopback only.
	Address string `yaml:"address" jsonschema:"required,example=db.internal:5432"`
	// The agents that dial the target, by the name that they have in agents.
	// Absent: the gateway dials it itself.
	Agent string `yaml:"agent" jsonschema:"example=vpc-a"`
	// The target's own database name. Absent: the connection's name.
	Database string `yaml:"database"`
	// How the target's identity is checked: a mode alone, or a mapping.
	TLS TargetTLS `yaml:"tls"`
	// What the gateway logs in with. No caller sees it.
	Credential Credential `yaml:"credential" jsonschema:"required"`
	// The target is told for whom it is, and decides by that too: the caller's
	// name and groups go with each request. For kubernetes, where the credential
	// has the right to impersonate them.
	Impersonate bool `yaml:"impersonate"`
	// Free names and values, for rules and for searching.
	Labels map[string]string `yaml:"labels"`
	// Who may open a session. Absent: nobody.
	Access []Access `yaml:"access"`
	// Tags of stored columns, for masks.
	Columns []ColumnTags `yaml:"columns"`
	// How long recordings are kept, then erased. Absent: for ever.
	Retention Duration `yaml:"retention" jsonschema:"example=400d"`

	// Managed: it was added at run time.
	Managed bool `yaml:"-"`
}

// TargetTLS says how a target's identity is checked. A mode alone, such as
// verify-full, stands for a mapping with that mode.
type TargetTLS struct {
	// verify-full checks the certificate and its name, verify-ca the
	// certificate only; disable sends everything in the clear, to a target on
	// loopback only.
	Mode string `yaml:"mode" jsonschema:"default=verify-full,enum=verify-full,enum=verify-ca,enum=disable"`
	// A file of PEM certificates to trust in place of the system's roots.
	CAFile string `yaml:"ca_file"`
	// A file with the client certificate in PEM, where the target wants one.
	Certificate string `yaml:"certificate"`
	// A file with the client certificate's private key in PEM.
	Key string `yaml:"key"`
}

// Credential is what the gateway logs in to a target with.
type Credential struct {
	// The target's user name.
	Username string `yaml:"username"`
	// Where the password lies. Absent: the target asks for none.
	Password Secret `yaml:"password"`
	// In place of both: where a bearer token lies, for a target that takes one,
	// such as the Kubernetes API. It is read anew for every session.
	Bearer Secret `yaml:"bearer"`
	// In place of both: a role of the vault's database engine.
	Vault *VaultDatabase `yaml:"vault"`
	// In place of both, over HTTP: a field of the header.
	Header *NamedSecret `yaml:"header"`
	// In place of both, over HTTP: a parameter of the query.
	Query *NamedSecret `yaml:"query"`
	// In place of both, over HTTP: tokens that an OAuth server gives for client
	// credentials (RFC 6749, section 4.4).
	OAuth *OAuthClient `yaml:"oauth"`
	// In place of both, over HTTP: requests signed as AWS does (Signature Version
	// 4).
	SigV4 *SigV4 `yaml:"sigv4"`
	// In place of all: the target asks for nothing.
	None bool `yaml:"none"`
}

// NamedSecret goes with a request under a name.
type NamedSecret struct {
	// The name of the field or parameter.
	Name string `yaml:"name" jsonschema:"required,example=X-Api-Key"`
	// Where its value lies.
	Value Secret `yaml:"value" jsonschema:"required"`
}

// OAuthClient gets tokens for a target.
type OAuthClient struct {
	// Where tokens are got. http is taken on loopback only.
	TokenURL string `yaml:"token_url" jsonschema:"required,example=https://id.example.com/oauth/token"`
	// The client's id.
	ClientID string `yaml:"client_id" jsonschema:"required"`
	// Where its secret lies.
	ClientSecret Secret `yaml:"client_secret" jsonschema:"required"`
	// What is asked for.
	Scopes []string `yaml:"scopes"`
	// The audience that is asked for, where the server wants one named.
	Audience string `yaml:"audience"`
}

// SigV4 signs requests to AWS, and to what is built like it.
type SigV4 struct {
	// The region that is signed for.
	Region string `yaml:"region" jsonschema:"required,example=eu-central-1"`
	// The service that is signed for.
	Service string `yaml:"service" jsonschema:"required,example=s3"`
	// The access key's id.
	AccessKeyID string `yaml:"access_key_id" jsonschema:"required"`
	// Where the secret access key lies.
	SecretAccessKey Secret `yaml:"secret_access_key" jsonschema:"required"`
}

// Access admits callers to a connection.
type Access struct {
	// Admits a caller who is in any of these groups.
	Groups []string `yaml:"groups" jsonschema:"required"`
}

// Approvals says how people are asked about held operations.
type Approvals struct {
	// How long an operation waits on the wire, by kind of caller; then it fails,
	// and goes through when it is run again once it is approved.
	Hold Hold `yaml:"hold"`
	// How long an approval can be answered, and used after, where the rule says
	// nothing.
	Life Duration `yaml:"life" jsonschema:"default=1h"`
}

// Hold is how long an operation waits for people.
type Hold struct {
	// For a person.
	Person Duration `yaml:"person" jsonschema:"default=15m"`
	// For a skill or another AI agent: less than its tools wait for an answer.
	Skill Duration `yaml:"skill" jsonschema:"default=60s"`
	// For a CI job.
	CI Duration `yaml:"ci" jsonschema:"default=10m"`
	// For another workload.
	Workload Duration `yaml:"workload" jsonschema:"default=60s"`
}

// Limits bounds what callers may take of the gateway.
type Limits struct {
	// Sessions at one time.
	Sessions int `yaml:"sessions" jsonschema:"default=10000,minimum=1"`
	// Sessions of one caller at one time; 0 sets no bound of its own.
	SessionsPerCaller int `yaml:"sessions_per_caller" jsonschema:"default=1000,minimum=0"`
	// How long a client may take to present its token.
	PreAuthTimeout Duration `yaml:"pre_auth_timeout" jsonschema:"default=10s"`
	// How long a session may be silent; 0s sets no bound.
	IdleTimeout Duration `yaml:"idle_timeout" jsonschema:"default=0s"`
	// How long a session may outlive its token.
	TokenGrace Duration `yaml:"token_grace" jsonschema:"default=0s"`
	// How long a ticket is good that is given for a token: never longer than
	// the token, and never longer than this, which is 1h at most.
	TicketLife Duration `yaml:"ticket_life" jsonschema:"default=15m"`
	// What must be free on the disk of data_dir.
	FreeSpace FreeSpace `yaml:"free_space"`
}

// FreeSpace is what must be free on the disk of data_dir: bytes, such as
// 2GiB, or a share of the disk, such as 5%.
type FreeSpace struct {
	// With less, no new session is opened.
	Sessions Space `yaml:"sessions" jsonschema:"default=5%"`
	// With less, no operation is let through.
	Operations Space `yaml:"operations" jsonschema:"default=1GiB"`
}

// Ledger is the tamper-evident log.
type Ledger struct {
	// The log's name in every checkpoint (C2SP tlog-checkpoint): a host name
	// and path of yours, without a scheme. Set it before the first start; a
	// log keeps its name for life.
	Origin string `yaml:"origin" jsonschema:"default=custos,example=custos.example.com/ledger"`
	// Servers that others run, which cosign checkpoints (C2SP tlog-witness).
	Witnesses []Witness `yaml:"witnesses"`
	// How many witnesses must have cosigned a checkpoint for it to count as
	// witnessed.
	WitnessQuorum int `yaml:"witness_quorum" jsonschema:"default=0,minimum=0"`
	// An idle ledger gains an entry this often, so that silence is proven too.
	Heartbeat Duration `yaml:"heartbeat" jsonschema:"default=1h"`
}

// Witness is a server that cosigns checkpoints.
type Witness struct {
	// The prefix of its add-checkpoint endpoint. http is taken on loopback
	// only.
	URL string `yaml:"url" jsonschema:"required,example=https://witness.example.org"`
	// Its verifier key: name+hash+key (C2SP signed-note), for cosignatures.
	Key string `yaml:"key" jsonschema:"required"`
}

// Targets returns the connections as the rest of the gateway knows them,
// without their credentials.
func (c *Config) Targets() []*custos.Connection {
	targets := make([]*custos.Connection, len(c.Connections))
	for i := range c.Connections {
		n := &c.Connections[i]
		access := make([]custos.Access, len(n.Access))
		for j, a := range n.Access {
			access[j] = custos.Access{Groups: a.Groups}
		}
		var tags []custos.ColumnTag
		for _, t := range n.Columns {
			for _, tag := range t.Tags {
				tags = append(tags, custos.ColumnTag{Columns: t.Match, Tag: tag})
			}
		}
		mode := n.TLS.Mode
		address, path, clear := n.place()
		if clear {
			mode = "disable"
		}
		targets[i] = &custos.Connection{
			Name:     n.Name,
			Protocol: n.Protocol,
			Address:  address,
			Path:     path,
			Auth:     n.Credential.auth(),
			Agent:    n.Agent,
			Database: n.Database,
			TLS: custos.TargetTLS{Mode: mode, CAFile: n.TLS.CAFile,
				CertFile: n.TLS.Certificate, KeyFile: n.TLS.Key},
			Impersonate: n.Impersonate,
			Labels:      n.Labels,
			Access:      access,
			Tags:        tags,
			Retention:   time.Duration(n.Retention),
		}
	}
	return targets
}
