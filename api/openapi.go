package api

import (
	_ "embed"
	"net/http"
)

// document describes the API, in OpenAPI 3.1. It is made of the handlers' types:
// go test ./api -run TestOpenAPI -update.
//
//go:embed openapi.json
var document []byte

// openapi gives the description of the API to whoever asks: it says no more
// than the source does.
func (s *server) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
	w.Write(document) // the client may be gone: nothing is to be done about it
}
