package git

import (
	"encoding/base64"

	custos "github.com/custos-gateway/custos"
)

// Client points git at a connection by its environment alone (git-config(1),
// GIT_CONFIG_COUNT): what custos:/ begins is the connection's. The token goes with
// what is asked of the connection only, and stands in no file.
func Client(r custos.Reach) custos.Setup {
	basic := base64.StdEncoding.EncodeToString([]byte("any:" + r.Token))
	env := []string{
		"GIT_TERMINAL_PROMPT=0", "CUSTOS_GIT_URL=" + r.URL, "GIT_CONFIG_COUNT=3",
		"GIT_CONFIG_KEY_0=http." + r.URL + "/.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic " + basic,
		"GIT_CONFIG_KEY_1=http." + r.URL + "/.sslCAInfo", "GIT_CONFIG_VALUE_1=" + r.CAFile,
		"GIT_CONFIG_KEY_2=url." + r.URL + "/.insteadOf", "GIT_CONFIG_VALUE_2=custos:" + r.Connection + "/",
	}
	return custos.Setup{Env: env, Command: []string{"git"}}
}
