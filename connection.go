package custos

import "time"

// Connection is a registered target: where it is, how it is spoken to and who
// may use it. It names its credential and does not hold it.
type Connection struct {
	// Name is what callers put where their client names a database or path.
	Name string
	// Protocol is the name of a folder under protocol/, such as "postgres".
	Protocol string
	// Address is host:port of the target as the dialling side sees it.
	Address string
	// Agent is the name of the agents that dial it, in its own network; empty:
	// the gateway dials itself.
	Agent string
	// Path is put before what callers ask for, where the target speaks HTTP; it
	// has no slash at its end.
	Path string
	// Auth is how the credential goes with each request, where the target speaks
	// HTTP.
	Auth Auth
	// Database is the target's own database name, where it has such.
	Database string
	// TLS says how the target's identity is checked.
	TLS TargetTLS
	// Impersonate: the target is told for whom each request is.
	Impersonate bool
	// Labels are matched by rules.
	Labels map[string]string
	// Access lists who may open a session. Empty: nobody.
	Access []Access
	// Tags are given to stored columns; masks name tags.
	Tags []ColumnTag
	// Retention is how long recordings are kept. Zero: for ever.
	Retention time.Duration
}

// ColumnTag gives a tag to the columns that match a pattern, as Mask.Columns
// has it.
type ColumnTag struct {
	Columns []string
	Tag     string
}

// TargetTLS is how the gateway speaks TLS to a target.
type TargetTLS struct {
	// Mode is one of "verify-full" (the default), "verify-ca", "disable".
	Mode string
	// CAFile holds PEM certificates to trust instead of the system's roots.
	CAFile string
	// CertFile and KeyFile are a client certificate in PEM, where the target
	// wants one.
	CertFile, KeyFile string
}

// Auth is how a credential goes with a request over HTTP. It holds no secret.
type Auth struct {
	// Scheme is one of the Auth constants; empty: there is no credential.
	Scheme string
	// Name is of the field of the header, or of the query.
	Name string
	// TokenURL is where tokens are got with the credential, for Scopes and
	// Audience.
	TokenURL string
	Scopes   []string
	Audience string
	// Region and Service are what signatures are for.
	Region, Service string
}

// The schemes of Auth.
const (
	AuthBasic  = "basic"  // RFC 7617
	AuthBearer = "bearer" // RFC 6750
	AuthHeader = "header"
	AuthQuery  = "query"
	AuthOAuth  = "oauth" // RFC 6749, section 4.4
	AuthSigV4  = "sigv4" // AWS Signature Version 4
)

// Access admits callers to a connection.
type Access struct {
	// Groups admits a caller who is in any of them.
	Groups []string
}

// Admits reports whether c's access list lets p open a session.
func (c *Connection) Admits(p *Principal) bool {
	for _, a := range c.Access {
		if p.InAny(a.Groups) {
			return true
		}
	}
	return false
}

// Credential is what logs in to a target. It goes from the vault to a
// protocol's Login and nowhere else; its methods keep it out of logs by
// accident.
type Credential struct {
	Username string
	Password string
	// Role is what Username was made for, where it is made anew from time to
	// time; empty: it stays.
	Role string
	// Return, if not nil, says that it is used no more.
	Return func()
}

// String returns a placeholder: a credential is never printed.
func (Credential) String() string { return "[credential]" }

// GoString returns a placeholder, for %#v.
func (Credential) GoString() string { return "custos.Credential{...}" }

// MarshalJSON returns a placeholder, for encoders that come across one.
func (Credential) MarshalJSON() ([]byte, error) { return []byte(`"[credential]"`), nil }
