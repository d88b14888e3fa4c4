// Package kubernetes lets clients of the Kubernetes API through: kubectl,
// client-go, Helm, controllers, curl.
//
// The specifications are the API's own: concepts at
// https://kubernetes.io/docs/reference/using-api/api-concepts/, what a path asks
// for in k8s.io/apiserver (pkg/endpoints/request, RequestInfo), the subprotocols
// of exec in k8s.io/apimachinery (pkg/util/remotecommand).
//
// Spoken: every verb on every resource, with bodies in JSON, YAML and Protocol
// Buffers, JSON, merge and strategic merge patches and server-side apply; lists,
// watches and logs as they come; exec, attach and port-forward over WebSocket
// and SPDY/3.1; proxy; discovery and OpenAPI.
//
// Refused, by name: paths that can be read in two ways, headers that say who
// somebody is, changes of protocols elsewhere, bodies that are none of these
// forms or name a field twice, CBOR.
//
// # What a request does
//
// A request is judged by what it asks for and by what its body does, wherever in
// it that stands: in a Pod, in the template of what makes Pods, in a patch of
// either. A WebSocket asks for exec by GET; it is exec all the same.
//
// # Secrets
//
// The values of Secrets are hidden in every answer, in every form, unless a rule
// lets them be seen. The API server is asked for JSON wherever the client takes
// it, so that an answer can be looked into.
//
// # Terminals
//
// What exec and attach show is recorded with its times. Each line that is typed
// into a terminal, or sent to a shell, is an operation of its own: judged, on
// record and searchable, before the shell gets its end.
package kubernetes
