package kubernetes

import (
	"encoding/json"
	"path/filepath"

	custos "github.com/custos-gateway/custos"
)

// kubeconfig is client-go's (k8s.io/client-go, tools/clientcmd/api/v1), as far
// as it is needed here.
type kubeconfig struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	CurrentContext string         `json:"current-context"`
	Clusters       []namedCluster `json:"clusters"`
	Users          []namedUser    `json:"users"`
	Contexts       []namedContext `json:"contexts"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster place  `json:"cluster"`
}

type place struct {
	Server string `json:"server"`
	CA     string `json:"certificate-authority,omitempty"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Token string `json:"token"`
	} `json:"user"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

// configName is the file's, in the folder of a client that is pointed at a
// connection.
const configName = "kubeconfig"

// Client points kubectl, Helm and whatever uses client-go at a connection, by a
// kubeconfig of its own: JSON is YAML.
func Client(r custos.Reach) custos.Setup {
	c := kubeconfig{APIVersion: "v1", Kind: "Config", CurrentContext: r.Connection, Clusters: []namedCluster{{r.Connection, place{r.URL, r.CAFile}}},
		Users: []namedUser{{Name: "custos"}}, Contexts: []namedContext{{Name: r.Connection}}}
	c.Users[0].User.Token = r.Token
	c.Contexts[0].Context.Cluster, c.Contexts[0].Context.User = r.Connection, "custos"
	b, err := json.MarshalIndent(&c, "", "  ")
	if err != nil {
		return custos.Setup{}
	}
	return custos.Setup{Env: []string{"KUBECONFIG=" + filepath.Join(r.Dir, configName)}, Files: map[string][]byte{configName: append(b, '\n')}, Command: []string{"kubectl"}}
}
