package custos

// Reach is what somebody needs to point a client of their own at a connection.
type Reach struct {
	// Connection is the connection's name.
	Connection string
	// Host and Port are where the protocol is listened on.
	Host string
	Port int
	// URL is the connection's on the HTTPS listener, without a slash at its
	// end; "" where the protocol has a listener of its own.
	URL string
	// CAFile holds the PEM certificates to trust.
	CAFile string
	// Token is what the caller presents.
	Token string
	// Dir is a private folder for Setup.Files.
	Dir string
}

// Setup is how a client is told of a Reach.
type Setup struct {
	// Env are variables, as NAME=value.
	Env []string
	// Files are written into Reach.Dir, by name, for their owner only.
	Files map[string][]byte
	// Command is the client that people mean when they name none.
	Command []string
}
