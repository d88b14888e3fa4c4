package mask

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is a kind of value that is looked for. Its zero value, other, is that
// of a whole value of no known kind.
type Kind uint8

// The kinds. Kinds names them; the names are what rules and tokens hold.
const (
	other Kind = iota
	email
	creditCard
	iban
	phone
	ipv4
	ipv6
	usSSN
	usNPI
	usMBI
	ukNINO
	nlBSN
	esDNI
	esNIE
	itCodiceFiscale
	frNIR
	deSteuerID
	plPESEL
	sePersonnummer
	brCPF
	brCNPJ
	inAadhaar
	caSIN
	auTFN
	cnResidentID
	jwt
	privateKey
	urlPassword
	awsAccessKey
	awsSecretKey
	gcpAPIKey
	googleOAuth
	azureKey
	githubToken
	gitlabToken
	bitbucketToken
	slackToken
	stripeKey
	openaiKey
	anthropicKey
	huggingfaceToken
	npmToken
	pypiToken
	sendgridKey
	twilioKey
	apiToken
	numKinds
)

var kindNames = [numKinds]string{
	other: "value", email: "email", creditCard: "credit_card", iban: "iban", phone: "phone", ipv4: "ipv4", ipv6: "ipv6",
	usSSN: "us_ssn", usNPI: "us_npi", usMBI: "us_mbi", ukNINO: "uk_nino", nlBSN: "nl_bsn", esDNI: "es_dni", esNIE: "es_nie",
	itCodiceFiscale: "it_codice_fiscale", frNIR: "fr_nir", deSteuerID: "de_steuer_id", plPESEL: "pl_pesel",
	sePersonnummer: "se_personnummer", brCPF: "br_cpf", brCNPJ: "br_cnpj", inAadhaar: "in_aadhaar", caSIN: "ca_sin",
	auTFN: "au_tfn", cnResidentID: "cn_resident_id",
	jwt: "jwt", privateKey: "private_key", urlPassword: "url_password", awsAccessKey: "aws_access_key",
	awsSecretKey: "aws_secret_key", gcpAPIKey: "gcp_api_key", googleOAuth: "google_oauth", azureKey: "azure_key",
	githubToken: "github_token", gitlabToken: "gitlab_token", bitbucketToken: "bitbucket_token", slackToken: "slack_token",
	stripeKey: "stripe_key", openaiKey: "openai_key", anthropicKey: "anthropic_key", huggingfaceToken: "huggingface_token",
	npmToken: "npm_token", pypiToken: "pypi_token", sendgridKey: "sendgrid_key", twilioKey: "twilio_key", apiToken: "api_token",
}

// String returns the kind's name.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// kinds is a set.
type kinds uint64

func (s kinds) has(k Kind) bool { return s&(1<<k) != 0 }

// from is the set of the kinds from a to z.
func from(a, z Kind) kinds { return 1<<(z+1) - 1<<a }

// groups are names that stand for several kinds.
var groups = []struct {
	name string
	set  kinds
}{
	{"all", from(email, apiToken)},
	{"pii", from(email, cnResidentID)},
	{"national_id", from(usSSN, cnResidentID)},
	{"secret", from(jwt, apiToken)},
	{"ip", from(ipv4, ipv6)},
}

// Kinds returns the names that a rule's Detect can hold: the groups, then the
// kinds.
func Kinds() []string {
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	return append(names, kindNames[email:]...)
}

// kindsOf returns the kinds that a name stands for, and whether it is a
// kind's own.
func kindsOf(name string) (set kinds, single bool, err error) {
	for _, g := range groups {
		if g.name == name {
			return g.set, false, nil
		}
	}
	if i := slices.Index(kindNames[email:], name); i >= 0 {
		return 1 << (int(email) + i), true, nil
	}
	if near := nearest(name, Kinds()); near != "" {
		return 0, false, fmt.Errorf("use detector %q: no such kind of value; did you mean %q?", name, near)
	}
	return 0, false, fmt.Errorf("use detector %q: no such kind of value; use one of %s", name, strings.Join(Kinds(), ", "))
}

// nearest returns the name that was likely meant, or "".
func nearest(name string, of []string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
	}
	name = plain(name)
	if len(name) < 2 || len(name) > 40 {
		return ""
	}
	best, least := "", 2+len(name)/4
	for _, n := range of {
		if d := distance(name, plain(n)); d < least {
			best, least = n, d
		}
	}
	if best != "" {
		return best
	}
	for _, n := range of {
		if p := plain(n); len(name) > 2 && (strings.Contains(p, name) || strings.Contains(name, p)) {
			return n
		}
	}
	return ""
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
