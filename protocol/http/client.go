package http

import (
	"path/filepath"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// curlrc is the file's name, in the folder of a client that is pointed at a
// connection.
const curlrc = ".curlrc"

// Client points curl at a connection by a file of its own, so that the token
// stands in no command line, and other clients by their environment.
func Client(r custos.Reach) custos.Setup {
	config := "header = \"Authorization: Bearer " + r.Token + "\"\n"
	if r.CAFile != "" {
		config += "cacert = \"" + strings.ReplaceAll(r.CAFile, `"`, `\"`) + "\"\n"
	}
	return custos.Setup{
		Env:     []string{"CUSTOS_HTTP_URL=" + r.URL, "CUSTOS_HTTP_TOKEN=" + r.Token, "CURL_HOME=" + r.Dir, "SSL_CERT_FILE=" + r.CAFile},
		Files:   map[string][]byte{curlrc: []byte(config)},
		Command: []string{"curl", "--config", filepath.Join(r.Dir, curlrc)},
	}
}
