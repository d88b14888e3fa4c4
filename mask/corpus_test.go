package mask

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
)

// The labelled set: values made from the public formats, each in several
// places, and what looks like one and is none. The checks here are written
// apart from the package's, so that a mistake in one isn't in both.

// sample is a text and the value in it, which is "" where there is none.
type sample struct {
	text, value string
	kind        Kind
	// class says what a negative is.
	class string
}

type maker struct{ *rand.Rand }

func (r maker) pick(s ...string) string { return s[r.IntN(len(s))] }

func (r maker) of(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

const (
	dig   = "0123456789"
	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower = "abcdefghijklmnopqrstuvwxyz"
	alnum = dig + upper + lower
	url64 = alnum + "-_"
)

func (r maker) digits(n int) string { return r.of(dig, n) }

// size is one of the numbers.
func (r maker) size(n ...int) int { return n[r.IntN(len(n))] }

// number is n digits of which the first isn't 0.
func (r maker) number(n int) string { return r.of(dig[1:], 1) + r.digits(n-1) }

func (r maker) date() (year, month, day int) {
	return 1930 + r.IntN(75), 1 + r.IntN(12), 1 + r.IntN(28)
}

// checked appends the digit with which valid says yes.
func (r maker) checked(body func() string, valid func(string) bool) string {
	for {
		b := body()
		for _, d := range dig {
			if s := b + string(d); valid(s) {
				return s
			}
		}
	}
}

// sums adds digit by weight, over the weights.
func sums(s string, weights ...int) (n int) {
	for i, w := range weights {
		n += w * strings.IndexByte(dig, s[i])
	}
	return n
}

// doubled is Luhn's, by the table of what doubling makes of a digit.
func doubled(s string) bool {
	n := 0
	for i, c := range s {
		v := int(c - '0')
		if (len(s)-i)%2 == 0 {
			v = []int{0, 2, 4, 6, 8, 1, 3, 5, 7, 9}[v]
		}
		n += v
	}
	return n%10 == 0
}

// iso7064 is the remainder by 97 of what the letters and digits are as one
// long number.
func iso7064(s string) int64 {
	var long strings.Builder
	for _, c := range s {
		long.WriteString(fmt.Sprint(strings.IndexRune(dig+upper, c)))
	}
	n, _ := new(big.Int).SetString(long.String(), 10)
	return n.Mod(n, big.NewInt(97)).Int64()
}

// spaced puts a mark behind as many characters as each size says.
func spaced(s, mark string, sizes ...int) string {
	var parts []string
	for _, n := range sizes {
		parts, s = append(parts, s[:n]), s[n:]
	}
	return strings.Join(append(parts, s), mark)
}

func (r maker) card() string {
	type network struct {
		prefix string
		n      int
	}
	c := []network{{"4", 16}, {"51", 16}, {"55", 16}, {"2221", 16}, {"2720", 16}, {"34", 15}, {"37", 15}, {"6011", 16}, {"65", 16},
		{"36", 14}, {"3528", 16}, {"62", 16}}[r.IntN(12)]
	s := r.checked(func() string { return c.prefix + r.digits(c.n-1-len(c.prefix)) }, doubled)
	if mark := r.pick("", "", " ", "-"); mark != "" {
		switch c.n {
		case 16:
			return spaced(s, mark, 4, 4, 4)
		default:
			return spaced(s, mark, 4, 6)
		}
	}
	return s
}

func (r maker) iban() string {
	c := []string{"DE18n", "GB4a14n", "FR20n2a1n", "NL4a10n", "ES20n", "IT1a22n", "BE12n", "CH17n", "AT16n", "PL24n", "SE20n", "NO11n"}[r.IntN(12)]
	bban := ""
	for rest := c[2:]; rest != ""; {
		var n int
		var class byte
		fmt.Sscanf(rest, "%d%c", &n, &class)
		rest = rest[len(fmt.Sprint(n))+1:]
		bban += r.of(map[byte]string{'n': dig, 'a': upper}[class], n)
	}
	s := fmt.Sprintf("%s%02d%s", c[:2], 98-iso7064(bban+c[:2]+"00"), bban)
	if r.IntN(2) == 0 {
		var parts []string
		for ; len(s) > 4; s = s[4:] {
			parts = append(parts, s[:4])
		}
		return strings.Join(append(parts, s), " ")
	}
	return s
}

func (r maker) verhoeff() string {
	// The dihedral group's product, from its definition.
	product := func(a, b int) int {
		switch {
		case a < 5 && b < 5:
			return (a + b) % 5
		case a < 5:
			return (a+b)%5 + 5
		case b < 5:
			return (a-b)%5 + 5
		}
		return (a - b + 10) % 5
	}
	sigma := []int{1, 5, 7, 6, 2, 8, 3, 0, 9, 4}
	return r.checked(func() string { return r.of(dig[2:], 1) + r.digits(10) }, func(s string) bool {
		c := 0
		for i := range len(s) {
			d := int(s[len(s)-1-i] - '0')
			for range i {
				d = sigma[d]
			}
			c = product(c, d)
		}
		return c == 0
	})
}

func (r maker) steuerID() string {
	return r.checked(func() string {
		p := r.Perm(10)
		for p[0] == 0 {
			p = r.Perm(10)
		}
		p[9] = p[r.IntN(9)]
		s := ""
		for _, d := range p {
			s += fmt.Sprint(d)
		}
		return s
	}, func(s string) bool {
		p := 10
		for _, c := range s[:10] {
			t := (int(c-'0') + p) % 10
			if t == 0 {
				t = 10
			}
			p = 2 * t % 11
		}
		return (p+int(s[10]-'0'))%10 == 1
	})
}

func (r maker) codiceFiscale() string {
	y, _, d := r.date()
	s := r.of("BCDFGLMNPRSTV", 6) + fmt.Sprintf("%02d%s%02d", y%100, r.of("ABCDEHLMPRST", 1), d+40*r.IntN(2)) + r.of("ABCDEFGHILMZ", 1) + r.digits(3)
	odd := "1 0 5 7 9 13 15 17 19 21 1 0 5 7 9 13 15 17 19 21 2 4 18 20 11 3 6 8 12 14 16 10 22 25 24 23"
	table := strings.Fields(odd)
	sum := 0
	for i, c := range s {
		at := strings.IndexRune(dig+upper, c)
		if i%2 == 0 {
			var v int
			fmt.Sscan(table[at], &v)
			sum += v
		} else if at < 10 {
			sum += at
		} else {
			sum += at - 10
		}
	}
	return s + upper[sum%26:sum%26+1]
}

func (r maker) nir() string {
	_, m, _ := r.date()
	s := fmt.Sprintf("%d%s%02d%02d%s", 1+r.IntN(2), r.digits(2), m, 1+r.IntN(95), r.digits(6))
	n, _ := new(big.Int).SetString(s, 10)
	key := 97 - n.Mod(n, big.NewInt(97)).Int64()
	if s += fmt.Sprintf("%02d", key); r.IntN(2) == 0 {
		return spaced(s, " ", 1, 2, 2, 2, 3, 3)
	}
	return s
}

func (r maker) brazilian(body, first, second string) string {
	weigh := func(s, weights string) string {
		n := 0
		for i := range weights {
			n += int(s[i]-'0') * (strings.IndexByte("..23456789AB", weights[i]))
		}
		if n = 11 - n%11; n > 9 {
			n = 0
		}
		return fmt.Sprint(n)
	}
	body += weigh(body, first)
	return body + weigh(body, second)
}

// makers make a value of a kind each.
var makers = map[Kind]func(r maker) string{
	email: func(r maker) string {
		return r.pick("john", "mary.ann", "o'neil", "info+tag", "x_y", "anna-lena", "jörg") + r.digits(r.IntN(3)) + "@" +
			r.pick("example", "mail.example", "ex-ample", "münchen") + r.pick(".com", ".co.uk", ".museum", ".xn--p1ai", ".de")
	},
	creditCard: maker.card,
	iban:       maker.iban,
	phone: func(r maker) string {
		nanp := func(mark string) string {
			return r.of("2345678", 1) + r.of("02345678", 1) + r.digits(1) + mark + r.of("23456789", 1) + r.of("02345678", 1) + r.digits(1) + mark + r.digits(4)
		}
		switch r.IntN(9) {
		case 0:
			return "+1" + nanp("")
		case 1:
			return "+1 " + nanp("-")
		case 2:
			return nanp(r.pick("-", "."))
		case 3:
			s := nanp("-")
			return "(" + s[:3] + ") " + s[4:]
		case 4:
			return "+" + r.pick("49", "31", "39", "86") + r.pick("", " ") + r.number(2) + r.pick("", " ", "-") + r.number(7)
		case 5:
			return "+44 20 " + r.number(4) + " " + r.digits(4)
		case 6:
			return "0" + spaced(r.number(1)+r.digits(8), r.pick(" ", ".", "-"), 1, 2, 2, 2)
		case 7:
			return "0" + r.number(3) + r.pick("/", " ", "-") + r.number(7)
		}
		return "00" + r.pick("44", "33", "49") + " " + r.number(3) + " " + r.number(6)
	},
	ipv4: func(r maker) string {
		return fmt.Sprintf("%d.%d.%d.%d", 1+r.IntN(255), r.IntN(256), r.IntN(256), r.IntN(256))
	},
	ipv6: func(r maker) string {
		if r.IntN(3) == 0 {
			return fmt.Sprintf("fe80::%x:%x", 1+r.IntN(65535), 1+r.IntN(65535))
		}
		if r.IntN(2) == 0 {
			return fmt.Sprintf("2001:db8:%x::%x", 1+r.IntN(65535), 1+r.IntN(65535))
		}
		return fmt.Sprintf("2a02:%x:%x:%x:%x:%x:%x:%x", 4096+r.IntN(60000), r.IntN(65536), r.IntN(65536), r.IntN(65536), r.IntN(65536), r.IntN(65536), r.IntN(65536))
	},
	usSSN: func(r maker) string {
		return fmt.Sprintf("%03d", []int{1 + r.IntN(665), 667 + r.IntN(233)}[r.IntN(2)]) + "-" + fmt.Sprintf("%02d", 1+r.IntN(99)) + "-" + fmt.Sprintf("%04d", 1+r.IntN(9999))
	},
	usNPI: func(r maker) string {
		return "NPI " + r.checked(func() string { return r.pick("1", "2") + r.digits(8) }, func(s string) bool { return doubled("80840" + s) })
	},
	usMBI: func(r maker) string {
		const a, c = "ACDEFGHJKMNPQRTUVWXY", "ACDEFGHJKMNPQRTUVWXY0123456789"
		s := r.number(1) + r.of(a, 1) + r.of(c, 1) + r.digits(1) + r.of(a, 1) + r.of(c, 1) + r.digits(1) + r.of(a, 2) + r.digits(2)
		return r.pick(s, spaced(s, "-", 4, 3))
	},
	ukNINO: func(r maker) string {
		s := r.pick("AB", "CE", "JG", "PX", "SR", "WK") + r.digits(6) + r.of("ABCD", 1)
		return r.pick(s, spaced(s, " ", 2, 2, 2, 2))
	},
	nlBSN: func(r maker) string {
		return "BSN " + r.checked(func() string { return r.number(8) }, func(s string) bool {
			return (sums(s, 9, 8, 7, 6, 5, 4, 3, 2)+10*int(s[8]-'0'))%11 == 0
		})
	},
	esDNI: func(r maker) string {
		var n int
		s := r.digits(8)
		fmt.Sscanf(s, "%d", &n)
		return s + r.pick("", "-") + string("TRWAGMYFPDXBNJZSQVHLCKE"[n%23])
	},
	esNIE: func(r maker) string {
		var n int
		s, first := r.digits(7), r.IntN(3)
		fmt.Sscanf(fmt.Sprint(first)+s, "%d", &n)
		return "XYZ"[first:first+1] + s + string("TRWAGMYFPDXBNJZSQVHLCKE"[n%23])
	},
	itCodiceFiscale: maker.codiceFiscale,
	frNIR:           maker.nir,
	deSteuerID:      maker.steuerID,
	plPESEL: func(r maker) string {
		return r.checked(func() string {
			y, m, d := r.date()
			if y >= 2000 {
				m += 20
			}
			return fmt.Sprintf("%02d%02d%02d", y%100, m, d) + r.digits(4)
		}, func(s string) bool { return sums(s, 9, 7, 3, 1, 9, 7, 3, 1, 9, 7)%10 == int(s[10]-'0') })
	},
	sePersonnummer: func(r maker) string {
		y, m, d := r.date()
		s := r.checked(func() string { return fmt.Sprintf("%02d%02d%02d", y%100, m, d) + r.digits(3) }, doubled)
		return r.pick(spaced(s, "-", 6), fmt.Sprint(y/100)+s, fmt.Sprint(y/100)+spaced(s, "-", 6))
	},
	brCPF: func(r maker) string {
		s := r.brazilian(r.digits(9), "A98765432", "BA98765432")
		return r.pick(s, s[:3]+"."+s[3:6]+"."+s[6:9]+"-"+s[9:])
	},
	brCNPJ: func(r maker) string {
		s := r.brazilian(r.number(8)+"000"+r.number(1), "543298765432", "6543298765432")
		return r.pick(s, s[:2]+"."+s[2:5]+"."+s[5:8]+"/"+s[8:12]+"-"+s[12:])
	},
	inAadhaar: func(r maker) string { return spaced(r.verhoeff(), r.pick(" ", "-"), 4, 4) },
	caSIN: func(r maker) string {
		s := r.checked(func() string { return r.of("12345679", 1) + r.digits(7) }, doubled)
		return r.pick(spaced(s, "-", 3, 3), "SIN "+spaced(s, " ", 3, 3))
	},
	auTFN: func(r maker) string {
		return "TFN " + spaced(r.checked(func() string { return r.number(8) }, func(s string) bool {
			return sums(s, 1, 4, 3, 7, 5, 8, 6, 9, 10)%11 == 0
		}), " ", 3, 3)
	},
	cnResidentID: func(r maker) string {
		y, m, d := r.date()
		s := r.pick("110105", "310101", "440305") + fmt.Sprintf("%d%02d%02d", y, m, d) + r.digits(3)
		return s + string("10X98765432"[sums(s, 7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)%11])
	},
	jwt: func(r maker) string {
		part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		return part(`{"alg":"HS256","typ":"JWT"}`) + "." + part(`{"sub":"`+r.number(8)+`","admin":true}`) + "." + r.of(url64, 43)
	},
	privateKey: func(r maker) string {
		label := r.pick("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK")
		body := ""
		for range 3 + r.IntN(9) {
			body += r.of(alnum+"+/", 64) + "\n"
		}
		return "-----BEGIN " + label + "-----\n" + body + "-----END " + label + "-----"
	},
	urlPassword:    func(r maker) string { return r.of(alnum+"!$&", 6+r.IntN(20)) },
	awsAccessKey:   func(r maker) string { return r.pick("AKIA", "ASIA") + r.of(upper+"234567", 16) },
	awsSecretKey:   func(r maker) string { return r.of(alnum+"+/", 40) },
	gcpAPIKey:      func(r maker) string { return "AIza" + r.of(url64, 34) + r.of(alnum, 1) },
	googleOAuth:    func(r maker) string { return r.pick("ya29.a0"+r.of(url64, 60), "GOCSPX-"+r.of(url64, 28)) },
	azureKey:       func(r maker) string { return r.of(alnum+"+/", 86) + "==" },
	githubToken:    func(r maker) string { return r.pick("ghp_", "gho_", "ghs_", "ghu_") + r.of(alnum, 36) },
	gitlabToken:    func(r maker) string { return r.pick("glpat-", "glrt-") + r.of(url64, 20) },
	bitbucketToken: func(r maker) string { return "ATBB" + r.of(alnum, 32) },
	slackToken: func(r maker) string {
		return r.pick("xoxb-", "xoxp-") + r.number(12) + "-" + r.number(12) + "-" + r.of(alnum, 24)
	},
	stripeKey: func(r maker) string { return r.pick("sk_live_", "rk_live_", "sk_test_") + r.of(alnum, 24) },
	openaiKey: func(r maker) string {
		return r.pick("sk-proj-"+r.of(url64, 100), "sk-"+r.of(alnum, 20)+"T3BlbkFJ"+r.of(alnum, 20))
	},
	anthropicKey:     func(r maker) string { return "sk-ant-api03-" + r.of(url64, 93) + "AA" },
	huggingfaceToken: func(r maker) string { return "hf_" + r.of(upper+lower, 34) },
	npmToken:         func(r maker) string { return "npm_" + r.of(alnum, 36) },
	pypiToken:        func(r maker) string { return "pypi-AgEIcHlwaS5vcmc" + r.of(url64, 80) },
	sendgridKey:      func(r maker) string { return "SG." + r.of(url64, 22) + "." + r.of(url64, 43) },
	twilioKey:        func(r maker) string { return "SK" + r.of("0123456789abcdef", 32) },
	apiToken: func(r maker) string {
		return r.pick("dop_v1_"+r.of("0123456789abcdef", 64), "hvs."+r.of(url64, 40), "gsk_"+r.of(alnum, 52))
	},
}

// labelled makes n samples of each kind.
func labelled(seed uint64, n int) []sample {
	r := maker{rand.New(rand.NewPCG(seed, 7))}
	var all []sample
	for k := email; k < numKinds; k++ {
		for range n {
			text := makers[k](r)
			value := text
			// The word in front is no part of the value.
			if word, rest, ok := strings.Cut(text, " "); ok && (word == "BSN" || word == "TFN" || word == "NPI" || word == "SIN") {
				value = rest
			}
			switch k {
			case urlPassword:
				text = r.pick("postgres", "https", "redis") + "://app:" + value + "@db.internal:5432/x"
			case awsSecretKey:
				text = r.pick("aws_secret_access_key = ", `"SecretAccessKey": "`, "AWS_SECRET_ACCESS_KEY=") + value
			case azureKey:
				text = "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=" + value + ";EndpointSuffix=core.windows.net"
			}
			switch r.IntN(6) {
			case 0, 1: // A field of its own.
			case 2:
				text = "wrote that it is " + text + ", and left"
			case 3:
				text = `{"id": 17, "note": "` + text + `", "ok": true}`
			case 4:
				text = "17;" + text + ";2024-01-15 10:23:45"
			case 5:
				text = "a\tb\t" + text + "\n"
			}
			all = append(all, sample{text, value, k, ""})
		}
	}
	return all
}

// negatives make what no value is, by class.
var negatives = []struct {
	class string
	make  func(r maker) string
}{
	{"order numbers", func(r maker) string {
		return r.pick("ORD-"+r.number(8), "#"+r.number(6), "2024-"+r.number(6), r.number(4)+"-"+r.number(4), r.number(7), "INV/2024/"+r.number(5))
	}},
	{"bare numbers of 9 or 10 digits", func(r maker) string { return r.number(9 + r.IntN(2)) }},
	{"bare numbers of 12 or 13 digits", func(r maker) string { return r.number(12 + r.IntN(2)) }},
	{"any number of 11 or 14 to 18 digits", func(r maker) string { return r.number(r.size(11, 14, 15, 16, 17, 18)) }},
	{"any 8 digits and a letter", func(r maker) string { return r.digits(8) + r.of(upper, 1) }},
	{"timestamps", func(r maker) string {
		y, m, d := r.date()
		clock := fmt.Sprintf("%02d:%02d:%02d", r.IntN(24), r.IntN(60), r.IntN(60))
		day := fmt.Sprintf("%d-%02d-%02d", y, m, d)
		return r.pick(day, day+"T"+clock+"Z", day+" "+clock+"."+r.digits(6)+"+00", fmt.Sprintf("%02d/%02d/%d", d, m, y), fmt.Sprintf("%02d.%02d.%d", d, m, y),
			"17"+r.digits(8), "17"+r.digits(11), "17"+r.digits(14), "17"+r.digits(17), strings.ReplaceAll(day, "-", "")+strings.ReplaceAll(clock, ":", ""), clock)
	}},
	{"UUIDs", func(r maker) string {
		s := r.of("0123456789abcdef", 32)
		if r.IntN(4) == 0 {
			s = r.digits(32)
		}
		return spaced(s, "-", 8, 4, 4, 4)
	}},
	{"versions", func(r maker) string {
		v := fmt.Sprintf("%d.%d.%d", r.IntN(20), r.IntN(30), r.IntN(40))
		return r.pick(v, "v"+v+"."+r.digits(1), "lodash@"+v, "version "+v+".1", "Chrome/"+v+".0", v+"."+r.number(4), v+".1.2", "pkg@"+v+"-rc.beta")
	}},
	{"hex digests", func(r maker) string {
		sum := sha256.Sum256([]byte(r.digits(9)))
		return r.pick(hex.EncodeToString(sum[:]), hex.EncodeToString(sum[:20]), hex.EncodeToString(sum[:16]), hex.EncodeToString(sum[:4]), "sha256:"+hex.EncodeToString(sum[:]))
	}},
	{"decimals", func(r maker) string {
		return r.pick("0."+r.digits(16), r.number(3)+"."+r.digits(2), r.number(1)+"."+r.digits(15)+"e-10", "-"+r.number(4)+"."+r.digits(12), r.number(1)+","+r.number(3)+","+r.number(3)+".00", "("+r.number(2)+"."+r.digits(7)+","+r.number(2)+"."+r.digits(7)+")")
	}},
	{"cards with a wrong check digit", func(r maker) string {
		s := []byte(strings.NewReplacer(" ", "", "-", "").Replace(r.card()))
		s[len(s)-1] = '0' + (s[len(s)-1]-'0'+1+byte(r.IntN(8)))%10
		return string(s)
	}},
	{"16 digits that no network issues", func(r maker) string { return r.of("1789", 1) + r.of("03456789", 1) + r.digits(14) }},
	{"SSNs never issued", func(r maker) string {
		return r.pick("000-12-3456", "666-12-3456", "9"+r.digits(2)+"-12-3456", "123-00-4567", "123-45-0000")
	}},
	{"IBANs with a wrong check", func(r maker) string {
		s := []byte(r.iban())
		s[3] = '0' + (s[3]-'0'+1)%10
		return string(s)
	}},
	{"MACs, fingerprints, C++", func(r maker) string {
		pairs := func(n int) string {
			var p []string
			for range n {
				p = append(p, r.of("0123456789abcdef", 2))
			}
			return strings.Join(p, ":")
		}
		return r.pick(pairs(6), pairs(8), pairs(16), pairs(20), "std::vector", "abc::def", "::", "a::b::c", "10:20")
	}},
	{"what has an @", func(r maker) string {
		return r.pick("@john", "user@localhost", "git@github.com:org/repo.git", "@types/node", "logo@2x.png", "postgres@db-1", "a @ b", "me@", "@app.route")
	}},
	{"URLs without a password", func(r maker) string {
		return r.pick("https://example.com/a", "https://user@host/p", "postgres://app:***MASKED***@db/x", "http://host:8080/a@b", "s3://bucket/key:1")
	}},
	{"what begins as a token", func(r maker) string {
		return r.pick("ghp_short", "sk_live", "sk-learn-contrib", "AKIA", "eyJhbGciOi", "npm_config_registry_url_of_the_company_x", "hf_hub_download", "xoxo-", "SG.",
			"glpat-xxxxxxxxxxxxxxxxxxxx", "ghp_"+strings.Repeat("x", 36), "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----", "task_live_"+r.of(lower, 20), "AKIA"+strings.Repeat("A", 16))
	}},
	{"base64", func(r maker) string { return base64.StdEncoding.EncodeToString([]byte(r.of(alnum, 20+r.IntN(60)))) }},
	{"product codes", func(r maker) string {
		return r.pick(r.of(upper, 3)+"-"+r.digits(4), r.of(upper, 2)+r.digits(4)+r.of(upper, 2), r.digits(3)+"-"+r.digits(3), "40"+r.digits(11), r.of(upper, 4)+r.digits(5), "0012-3456-789")
	}},
	{"prose", func(r maker) string {
		return r.pick("a well-known limit of 4096 bytes", "pages 12-19, section 4.2", "call me at 5", "between 1 000 and 2 000 000", "EUR 1.234,56", "100 200 300", "EUR "+spaced(r.number(9), " ", 3, 3), "5-10-15 fertiliser", "9/11, 24/7")
	}},
}

func unlabelled(seed uint64, n int) []sample {
	r := maker{rand.New(rand.NewPCG(seed, 9))}
	var all []sample
	for _, c := range negatives {
		for range n {
			all = append(all, sample{text: c.make(r), class: c.class})
		}
	}
	return all
}
