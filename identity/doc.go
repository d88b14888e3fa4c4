// Package identity says who is calling: it verifies OpenID Connect and OAuth
// access tokens (RFC 7519, RFC 9068) and turns them into custos.Principal.
//
// # What is checked, in order
//
// The size (64 KiB at most); that the token is a compact JWS of three canonical
// base64url parts, signed and not encrypted; its header (`alg` among the
// issuer's algorithms, never none and never a shared secret; `typ`; no `crit`);
// `iss`, compared byte for byte, which selects the issuer and with it the only
// keys that are tried; the signature; then `aud`, `azp`, `exp`, `nbf`, `iat`,
// `sub`, the claims that the issuer's configuration requires, `act` and the
// groups. Keys that a token brings along (`jwk`, `jku`, `x5c`, `x5u`) are never
// used. A JSON object that names a member twice is refused.
//
// # Keys
//
// The keys of an issuer are fetched when its first token comes, so a gateway
// starts although an issuer is down. They are refreshed in the background
// every 5 minutes; a token never waits for that unless they are 10 minutes old.
// So a key that the issuer removes stops working within 10 minutes, or, while
// the issuer can't be reached, within an hour. A key id that is not known
// causes a refresh at once, but never more than one in 5 seconds, so a flood of
// invented ids does not become a flood on the issuer. While an issuer fails it
// is tried after 1 second, then 2, 4 and so on up to once a minute.
//
// # Delegation
//
// In a token with an `act` claim (RFC 8693, section 4.1) the subject is on
// whose behalf, and the actor is the caller: the Principal is the outermost
// actor, and its OnBehalfOf is the token's subject. Actors nested deeper are
// history, which section 4.1 forbids to use for access control; they are
// checked for form and dropped. The caller's groups are the token's groups
// claim: what the issuer grants to this delegation, which is at most what both
// have. The subject has no groups of its own here unless the issuer's
// configuration names a second claim for them. An actor of another issuer is
// believed only where the configuration lists that issuer.
//
// A `may_act` claim (section 4.4) does not change who is calling: it says who
// could become the actor, and is for the token exchange to judge.
package identity
