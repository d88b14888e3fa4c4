// Package git speaks git's smart HTTP (gitprotocol-http(5)), versions 0, 1 and 2, and
// the batch API of Git LFS, between git clients and an upstream that speaks the
// same.
//
// A push is read to its end before any of it is sent (judge.go): its pack goes into a
// sealed spool (spool.go), every object is hashed and looked through as it
// comes (pack.go, inspect.go), deltas are applied within bounds (delta.go), and
// what it builds on is asked of the upstream (upstream.go, source.go), on record and by
// a way that can only read (login.go). Then it is one operation, of which the
// facts are what its objects say, and the text is the difference (text.go). If it is let
// through, the commands go out as they were read, and the pack byte for byte;
// both are recorded as input (push.go).
//
// What is refused, and why:
//
//   - the dumb protocol, git-upload-archive and any other path: nothing in
//     them is judged;
//   - unknown commands, lines, capabilities and encodings: they may mean anything;
//   - signed pushes (push-cert): their commands would be there twice;
//   - packs and bundles by address (packfile-uris, bundle-uri): they would come
//     past the gateway;
//   - reading, where a rule masks by what values look like: objects are named by
//     their hash, and cannot be changed on the way;
//   - names, objects and packs that git would not make, or that mean something
//     else elsewhere (tricks.go, object.go, refname.go).
//
// Formats: gitformat-pack(5), gitprotocol-pack(5), gitprotocol-v2(5), gitprotocol-capabilities(5),
// https://git-scm.com/docs; https://github.com/git-lfs/git-lfs/tree/main/docs/api.
package git
