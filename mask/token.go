package mask

import (
	"bytes"
	"math/bits"
)

// token is how a credential that its issuer marked is recognised.
type token struct {
	kind   Kind
	prefix string
	// anchor is the place in prefix, 1 or more, of the byte that the scanner
	// stops at: one that is rare in text.
	anchor int
	// body is the alphabet of what follows, least and most how many there are
	// (0: any number).
	body        uint8
	least, most int
	// form, if it isn't plain, takes body's place.
	form form
}

// form is how what follows a prefix is read.
type form uint8

const (
	plain form = iota
	formArmour
	formPutty
	formJWT
	formAWSKey
	formAWSSecret
	formAzure
	formEntra
	formGitlab
	formSlack
	formSendgrid
)

// tokens are what issuers document, or what their tokens were seen to be.
var tokens = [...]token{
	{kind: privateKey, prefix: "-----BEGIN ", anchor: 5, form: formArmour},
	{kind: privateKey, prefix: "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----", anchor: 5, form: formArmour},
	{kind: privateKey, prefix: "PuTTY-User-Key-File-", anchor: 5, form: formPutty},
	{kind: jwt, prefix: "eyJ", anchor: 2, form: formJWT},

	{kind: awsAccessKey, prefix: "AKIA", anchor: 1, form: formAWSKey},
	{kind: awsAccessKey, prefix: "ASIA", anchor: 2, form: formAWSKey},
	{kind: awsAccessKey, prefix: "ABIA", anchor: 2, form: formAWSKey},
	{kind: awsAccessKey, prefix: "ACCA", anchor: 2, form: formAWSKey},
	{kind: awsSecretKey, prefix: "ecretAccessKey", anchor: 11, form: formAWSSecret},
	{kind: awsSecretKey, prefix: "ecret_access_key", anchor: 12, form: formAWSSecret},
	{kind: awsSecretKey, prefix: "ECRET_ACCESS_KEY", anchor: 12, form: formAWSSecret},
	{kind: awsSecretKey, prefix: "ecret_key", anchor: 5, form: formAWSSecret},
	{kind: gcpAPIKey, prefix: "AIza", anchor: 2, body: isToken, least: 35, most: 35},
	{kind: googleOAuth, prefix: "GOCSPX-", anchor: 6, body: isToken, least: 20, most: 40},
	{kind: azureKey, prefix: "AccountKey=", anchor: 10, form: formAzure},
	{kind: azureKey, prefix: "SharedAccessKey=", anchor: 15, form: formAzure},
	{kind: azureKey, prefix: "sig=", anchor: 3, form: formAzure},
	{kind: azureKey, prefix: "Q~", anchor: 1, form: formEntra},

	{kind: githubToken, prefix: "ghp_", anchor: 3, body: isAlnum, least: 36, most: 255},
	{kind: githubToken, prefix: "gho_", anchor: 3, body: isAlnum, least: 36, most: 255},
	{kind: githubToken, prefix: "ghu_", anchor: 3, body: isAlnum, least: 36, most: 255},
	{kind: githubToken, prefix: "ghs_", anchor: 3, body: isAlnum, least: 36, most: 255},
	{kind: githubToken, prefix: "ghr_", anchor: 3, body: isAlnum, least: 36, most: 255},
	{kind: githubToken, prefix: "github_pat_", anchor: 6, body: isToken, least: 80, most: 255},
	{kind: gitlabToken, prefix: "glpat-", anchor: 5, form: formGitlab},
	{kind: gitlabToken, prefix: "gldt-", anchor: 4, form: formGitlab},
	{kind: gitlabToken, prefix: "glrt-", anchor: 4, form: formGitlab},
	{kind: gitlabToken, prefix: "glptt-", anchor: 5, form: formGitlab},
	{kind: gitlabToken, prefix: "glcbt-", anchor: 5, form: formGitlab},
	{kind: bitbucketToken, prefix: "ATBB", anchor: 3, body: isAlnum, least: 28, most: 40},
	{kind: bitbucketToken, prefix: "ATCTT3", anchor: 4, body: isToken | isBase64, least: 80},

	{kind: slackToken, prefix: "xox", anchor: 2, form: formSlack},
	{kind: slackToken, prefix: "xapp-", anchor: 4, body: isToken, least: 20},
	{kind: slackToken, prefix: "hooks.slack.com/services/", anchor: 5, body: isToken | isBase64, least: 30, most: 120},
	{kind: stripeKey, prefix: "sk_live_", anchor: 2, body: isAlnum, least: 16, most: 250},
	{kind: stripeKey, prefix: "sk_test_", anchor: 2, body: isAlnum, least: 16, most: 250},
	{kind: stripeKey, prefix: "rk_live_", anchor: 2, body: isAlnum, least: 16, most: 250},
	{kind: stripeKey, prefix: "rk_test_", anchor: 2, body: isAlnum, least: 16, most: 250},
	{kind: stripeKey, prefix: "whsec_", anchor: 5, body: isAlnum, least: 32, most: 80},
	{kind: openaiKey, prefix: "sk-proj-", anchor: 2, body: isToken, least: 40},
	{kind: openaiKey, prefix: "sk-svcacct-", anchor: 2, body: isToken, least: 40},
	{kind: openaiKey, prefix: "sk-admin-", anchor: 2, body: isToken, least: 40},
	{kind: openaiKey, prefix: "sk-", anchor: 2, body: isAlnum, least: 48, most: 48},
	{kind: anthropicKey, prefix: "sk-ant-", anchor: 2, body: isToken, least: 32},
	{kind: huggingfaceToken, prefix: "hf_", anchor: 2, body: isAlnum, least: 34, most: 40},
	{kind: npmToken, prefix: "npm_", anchor: 3, body: isAlnum, least: 36, most: 36},
	{kind: pypiToken, prefix: "pypi-Ag", anchor: 4, body: isToken, least: 50},
	{kind: sendgridKey, prefix: "SG.", anchor: 2, form: formSendgrid},
	{kind: twilioKey, prefix: "SK", anchor: 1, body: isHex, least: 32, most: 32},

	{kind: apiToken, prefix: "sk-or-v1-", anchor: 2, body: isHex, least: 64, most: 64},  // OpenRouter
	{kind: apiToken, prefix: "gsk_", anchor: 3, body: isAlnum, least: 48, most: 60},     // Groq
	{kind: apiToken, prefix: "xai-", anchor: 3, body: isToken, least: 70, most: 100},    // xAI
	{kind: apiToken, prefix: "dop_v1_", anchor: 3, body: isHex, least: 64, most: 64},    // DigitalOcean
	{kind: apiToken, prefix: "shpat_", anchor: 5, body: isHex, least: 32, most: 32},     // Shopify
	{kind: apiToken, prefix: "hvs.", anchor: 3, body: isToken, least: 24},               // Vault
	{kind: apiToken, prefix: "dckr_pat_", anchor: 4, body: isToken, least: 20},          // Docker
	{kind: apiToken, prefix: "glsa_", anchor: 4, body: isToken, least: 36, most: 60},    // Grafana
	{kind: apiToken, prefix: "lin_api_", anchor: 3, body: isAlnum, least: 40, most: 60}, // Linear
	{kind: apiToken, prefix: "tskey-", anchor: 5, body: isToken, least: 20},             // Tailscale
	{kind: apiToken, prefix: "ATATT3", anchor: 4, body: isToken | isBase64, least: 80},  // Atlassian
	{kind: apiToken, prefix: "AGE-SECRET-KEY-1", anchor: 3, body: isAlnum, least: 58, most: 58},
}

// A Masker keeps the tokens' places in 64 bits.
var _ [64 - len(tokens)]struct{}

// findToken looks for a token whose anchor is at i.
func (s *scanner) findToken(i int) (Span, bool) {
	if i == 0 {
		return Span{}, false
	}
	b := s.b
	for set := s.m.anchors[b[i]] & s.m.before[b[i-1]]; set != 0; set &= set - 1 {
		t := &tokens[bits.TrailingZeros64(set)]
		start := i - t.anchor
		if start < s.floor || len(b)-start < len(t.prefix) || string(b[start:start+len(t.prefix)]) != t.prefix {
			continue
		}
		if from, to, ok := s.read(t, start); ok {
			return hit(from, to, t.kind)
		}
	}
	return Span{}, false
}

// read reads the value whose prefix is at start.
func (s *scanner) read(t *token, start int) (from, to int, ok bool) {
	switch t.form {
	case formArmour:
		return s.armour(start)
	case formPutty:
		return s.putty(start)
	case formAWSSecret:
		return s.awsSecret(start)
	case formAzure:
		return s.azure(start)
	case formEntra:
		return s.entra(start)
	}
	// The others are words of their own.
	if !s.begins(start) {
		return 0, 0, false
	}
	switch t.form {
	case formJWT:
		return s.jwt(start)
	case formAWSKey:
		return s.awsKey(start)
	case formGitlab:
		return s.gitlab(start)
	case formSlack:
		return s.slack(start)
	case formSendgrid:
		return s.sendgrid(start)
	}
	to, ok = s.run(start+len(t.prefix), t.body, t.least, t.most)
	return start, to, ok
}

// begins says whether a token may begin at i: no word is in front.
func (s *scanner) begins(i int) bool {
	b := s.b
	if i <= s.floor || s.framing(i) || is[b[i-1]]&isAlnum == 0 && b[i-1] != '_' {
		return true
	}
	return i-2 >= s.floor && b[i-2] == '\\' || i-3 >= s.floor && b[i-3] == '%'
}

// run returns the end of the bytes of an alphabet from i on, of which there
// must be at least and at most (if most isn't 0) so many, not all alike.
//
// It reads little where it fails, or else many prefixes in a row would be as
// many runs to the end of b.
func (s *scanner) run(i int, body uint8, least, most int) (end int, ok bool) {
	b := s.b
	end = i
	for end < len(b) && is[b[end]]&body != 0 && (most == 0 || end-i < most+2) {
		end++
		if end-i == 64 && !s.varied(i, end) {
			return 0, false
		}
	}
	n := end - i
	// The next message's type may be behind the value.
	if most > 0 && n == most+1 && s.framed && (end == len(b) || b[end] == 0) {
		end, n = end-1, most
	}
	if n < least || most > 0 && n > most || !s.varied(i, end) {
		return 0, false
	}
	if end < len(b) && (is[b[end]]&isAlnum != 0 || b[end] == '_') && !(s.framed && (end+1 == len(b) || b[end+1] == 0)) {
		return 0, false
	}
	return end, true
}

// varied tells a secret from what holds its place, such as xxxxxxxx.
func (s *scanner) varied(i, end int) bool {
	var seen uint64
	for _, c := range s.b[i:min(end, i+64)] {
		seen |= 1 << (c & 63)
	}
	return bits.OnesCount64(seen) >= 6
}

// jwt reads the parts of a JSON web token (RFC 7519): three, the last of which
// may be empty, or five of an encrypted one.
func (s *scanner) jwt(start int) (from, to int, ok bool) {
	b := s.b
	if start > s.floor && b[start-1] == '-' && !s.framing(start) {
		return 0, 0, false
	}
	parts, i := 1, start
	first := 0
	for i < len(b) {
		if is[b[i]]&isToken != 0 {
			i++
			continue
		}
		if b[i] != '.' || parts == 5 {
			break
		}
		if parts == 1 {
			first = i
		}
		parts++
		i++
	}
	if parts < 3 || first-start < 10 || parts < 5 && (first+3 > len(b) || b[first+1] != 'e' || b[first+2] != 'y') {
		return 0, 0, false
	}
	// A full stop behind a signature ends a sentence.
	for parts > 3 && b[i-1] == '.' {
		i--
		parts--
	}
	return start, i, true
}

// awsKey reads an access key's identifier, and the secret if it stands behind.
func (s *scanner) awsKey(start int) (from, to int, ok bool) {
	b := s.b
	to = start + 4
	for to < len(b) && to < start+20 && is[b[to]]&isBase32 != 0 {
		to++
	}
	if to != start+20 || !s.right(to) && b[to] != '-' || !s.varied(start+4, to) {
		return 0, 0, false
	}
	for i := to; i < len(b) && i < to+3; i++ {
		if is[b[i]]&(isAlnum|isBase64) != 0 || b[i] == 0 {
			break
		}
		if end, ok := s.run(i+1, isAlnum|isBase64, 40, 40); ok {
			return start, end, true
		}
	}
	return start, to, true
}

// awsSecret reads a secret access key: 40 characters behind its name.
func (s *scanner) awsSecret(start int) (from, to int, ok bool) {
	b := s.b
	from = start + len("ecret_key")
	for from < min(len(b), start+24) && (is[b[from]]&isLetter != 0 || b[from] == '_') {
		from++
	}
	for mark := from; from < len(b) && from < mark+8; from++ {
		switch b[from] {
		case ' ', '\t', '"', '\'', ':', '=', '>', '\\', ',':
			continue
		}
		break
	}
	to, ok = s.run(from, isAlnum|isBase64, 40, 40)
	return from, to, ok
}

// azure reads a storage account's or a bus's key, or an access signature.
func (s *scanner) azure(start int) (from, to int, ok bool) {
	b := s.b
	from = start + bytes.IndexByte(b[start:], '=') + 1
	if b[start] != 's' {
		to, ok = s.run(from, isAlnum|isBase64, 40, 90)
		return from, to, ok
	}
	if start == 0 || b[start-1] != '?' && b[start-1] != '&' && b[start-1] != ';' {
		return 0, 0, false
	}
	for to = from; to < len(b) && (is[b[to]]&(isAlnum|isBase64) != 0 || b[to] == '%'); {
		to++
	}
	return from, to, to-from >= 43 && to-from <= 140
}

// entra reads the secret of an application of Microsoft Entra.
func (s *scanner) entra(start int) (from, to int, ok bool) {
	b := s.b
	from = start - 4
	if from < s.floor || is[b[start-1]]&isDigit == 0 || !s.begins(from) {
		return 0, 0, false
	}
	for _, c := range b[from : start-1] {
		if is[c]&isToken == 0 && c != '~' && c != '.' {
			return 0, 0, false
		}
	}
	for to = start + 2; to < min(len(b), start+48) && (is[b[to]]&isToken != 0 || b[to] == '~' || b[to] == '.'); {
		to++
	}
	for b[to-1] == '.' {
		to--
	}
	n := to - start - 2
	return from, to, n >= 31 && n <= 35 && s.varied(start+2, to)
}

// gitlab reads a token of GitLab's, the newer of which have full stops in them.
func (s *scanner) gitlab(start int) (from, to int, ok bool) {
	b := s.b
	body := start + bytes.IndexByte(b[start:], '-') + 1
	for to = body; to < min(len(b), body+320) && (is[b[to]]&isToken != 0 || b[to] == '.' && to+1 < len(b) && is[b[to+1]]&isAlnum != 0); {
		to++
	}
	return start, to, to-body >= 20 && s.varied(body, to)
}

// slack reads xoxb-, xoxp- and their like.
func (s *scanner) slack(start int) (from, to int, ok bool) {
	b := s.b
	if start+5 > len(b) || is[b[start+3]]&isLower == 0 || b[start+4] != '-' && !(b[start+4] == '.' && b[start+3] == 'e') {
		return 0, 0, false
	}
	to, ok = s.run(start+5, isToken, 16, 0)
	return start, to, ok
}

// sendgrid reads the two parts of a key.
func (s *scanner) sendgrid(start int) (from, to int, ok bool) {
	body := start + 3
	for to = body; to < len(s.b) && is[s.b[to]]&isToken != 0; {
		to++
	}
	if n := to - body; n < 16 || n > 32 || to == len(s.b) || s.b[to] != '.' {
		return 0, 0, false
	}
	to, ok = s.run(to+1, isToken, 32, 64)
	return start, to, ok
}

// isArmour are the bytes of a key's armour and headers.
func isArmour(c byte) bool {
	return is[c]&(isToken|isBase64) != 0 || c == '\n' || c == '\r' || c == '\t' || c == ' ' || c == ':' || c == ',' ||
		c == '.' || c == '\\' || c == '(' || c == ')' || c == '@' || c == '<' || c == '>' || c == '"'
}

// armour reads a private key between its marks (RFC 7468, RFC 9580, OpenSSH's,
// RFC 4716). Where the mark at the end is missing, what can be a part of the
// key goes to it.
func (s *scanner) armour(start int) (from, to int, ok bool) {
	b := s.b
	head := start + len("---- BEGIN ")
	label := head
	for label < len(b) && label < head+48 && (is[b[label]]&(isUpper|isDigit) != 0 || b[label] == ' ') {
		label++
	}
	if !bytes.Contains(b[head:label], []byte("PRIVATE KEY")) {
		return 0, 0, false
	}
	i := label
	for i < len(b) && b[i] == '-' {
		i++
	}
	body, tight, open := i, i, true
	for ; i < len(b) && isArmour(b[i]); i++ {
		if b[i] == '-' && bytes.HasPrefix(b[i:], []byte("----")) {
			mark := b[i:]
			for len(mark) > 0 && (mark[0] == '-' || mark[0] == ' ') {
				mark = mark[1:]
			}
			if !bytes.HasPrefix(mark, []byte("END")) {
				break
			}
			end := len(b) - len(mark) + 3
			for end < len(b) && (is[b[end]]&(isUpper|isDigit) != 0 || b[end] == ' ') {
				end++
			}
			for end < len(b) && b[end] == '-' {
				end++
			}
			return start, end, true
		}
		if open = open && b[i] != ' ' && b[i] != '\t' && b[i] != '"'; open {
			tight = i + 1
		}
	}
	return start, tight, tight-body >= 32
}

// putty reads a PuTTY key up to its MAC.
func (s *scanner) putty(start int) (from, to int, ok bool) {
	b := s.b
	lines, mac := false, false
	i := start + len("PuTTY-User-Key-File-")
	for ; i < len(b) && (b[i] >= ' ' && b[i] < 0x7F || b[i] == '\n' || b[i] == '\r' || b[i] == '\t'); i++ {
		if b[i] != 'P' {
			if mac && (b[i] == '\n' || b[i] == '\r' || b[i] == '\\') {
				break
			}
			continue
		}
		rest := b[i:min(i+20, len(b))]
		switch {
		case bytes.HasPrefix(rest, []byte("PuTTY-User-Key-File-")):
			return 0, 0, false
		case bytes.HasPrefix(rest, []byte("Private-Lines:")):
			lines = true
		case bytes.HasPrefix(rest, []byte("Private-MAC:")):
			mac = true
		}
	}
	return start, i, lines
}
