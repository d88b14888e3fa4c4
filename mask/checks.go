package mask

// The checks that public formats carry. Each takes digits' values, not their
// characters, and as many as the format has where it doesn't say otherwise.

// value reads digits as a number.
func value(d []byte) (v int) {
	for _, c := range d {
		v = v*10 + int(c)
	}
	return v
}

// weigh sums the digits, each times its weight.
func weigh(d []byte, weights ...int) (sum int) {
	for i, w := range weights {
		sum += int(d[i]) * w
	}
	return sum
}

// luhn is ISO/IEC 7812-1's check.
func luhn(d []byte) bool {
	sum := 0
	for i := range d {
		v := int(d[len(d)-1-i])
		if i%2 == 1 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}

// isCard says whether d is a payment card's number: a range that one of the
// networks issues at that length, and Luhn's check.
func isCard(d []byte) bool {
	n := len(d)
	if n < 13 || n > 19 {
		return false
	}
	two, three, four, six := value(d[:2]), value(d[:3]), value(d[:4]), value(d[:6])
	ok := false
	switch {
	case d[0] == 4: // Visa
		ok = n == 13 || n == 16 || n == 19
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720: // Mastercard
		ok = n == 16
	case four >= 2200 && four <= 2204: // Mir
		ok = n >= 16
	case two == 34 || two == 37: // American Express
		ok = n == 15
	case three >= 300 && three <= 305, two == 36, two == 38, two == 39: // Diners Club
		ok = n == 14 || n == 16
	case four >= 3528 && four <= 3589: // JCB
		ok = n >= 16
	case four == 6011, three >= 644 && three <= 649, two == 65, six >= 622126 && six <= 622925: // Discover
		ok = n >= 16
	case two == 62, two == 81, two == 60, two == 82, three == 508: // UnionPay, RuPay
		ok = n >= 16
	case four == 5018, four == 5020, four == 5038, four == 5893, four == 6304, four == 6759, four >= 6761 && four <= 6763: // Maestro
		ok = true
	}
	return ok && luhn(d) && !same(d[:n-1])
}

// same says whether all are one digit.
func same(d []byte) bool {
	for _, c := range d {
		if c != d[0] {
			return false
		}
	}
	return true
}

// isSSN goes by the rules of the Social Security Administration: no area 000,
// 666 or 900 and above, no group 00, no serial number 0000.
func isSSN(d []byte) bool {
	area := value(d[:3])
	return area != 0 && area != 666 && area < 900 && value(d[3:5]) != 0 && value(d[5:]) != 0 && !same(d)
}

// isDate says whether there can be such a day.
func isDate(month, day int) bool {
	if month < 1 || month > 12 {
		return false
	}
	return day >= 1 && day <= [...]int{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
}

// isTimestamp says whether the 14 or more digits begin as YYYYMMDDhhmmss.
func isTimestamp(d []byte) bool {
	year := value(d[:4])
	return year >= 1900 && year < 2100 && isDate(value(d[4:6]), value(d[6:8])) &&
		value(d[8:10]) < 24 && value(d[10:12]) < 60 && value(d[12:14]) < 61
}

// isBSN is the Dutch number's eleven-test.
func isBSN(d []byte) bool {
	return weigh(d, 9, 8, 7, 6, 5, 4, 3, 2, -1)%11 == 0 && !same(d)
}

// isSIN is Canada's: Luhn's check, and a first digit that is issued.
func isSIN(d []byte) bool { return d[0] != 0 && d[0] != 8 && luhn(d) && !same(d) }

// isTFN is Australia's tax file number.
func isTFN(d []byte) bool {
	return weigh(d, 1, 4, 3, 7, 5, 8, 6, 9, 10)%11 == 0 && !same(d)
}

// isNPI is the American provider's number: Luhn's check with 80840 in front
// (45 CFR 162.406).
func isNPI(d []byte) bool {
	var long [15]byte
	copy(long[copy(long[:], []byte{8, 0, 8, 4, 0}):], d)
	return (d[0] == 1 || d[0] == 2) && luhn(long[:])
}

// isPersonnummer is Sweden's, with a year of two digits or four: a date, where
// a coordination number's day has 60 added, and Luhn's check.
func isPersonnummer(d []byte) bool {
	if len(d) == 12 {
		if century := value(d[:2]); century < 18 || century > 20 {
			return false
		}
		d = d[2:]
	}
	day := value(d[4:6])
	if day > 60 {
		day -= 60
	}
	return isDate(value(d[2:4]), day) && luhn(d)
}

// isPESEL is Poland's: the century is in the month.
func isPESEL(d []byte) bool {
	month := value(d[2:4])
	return month < 33 && isDate(month%20, value(d[4:6])) && weigh(d, 1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)%10 == 0
}

// isSteuerID is Germany's: of the first ten digits one is there twice or
// thrice and the others once at most; the last is ISO 7064's MOD 11,10.
func isSteuerID(d []byte) bool {
	var count [10]int
	product := 10
	for _, c := range d[:10] {
		count[c]++
		sum := (int(c) + product) % 10
		if sum == 0 {
			sum = 10
		}
		product = sum * 2 % 11
	}
	repeated := 0
	for _, n := range count {
		if n > 3 {
			return false
		}
		if n > 1 {
			repeated++
		}
	}
	return d[0] != 0 && repeated == 1 && (11-product)%10 == int(d[10])
}

// mod11 is the check digit that Brazil's numbers use twice.
func mod11(sum int) int {
	if r := sum % 11; r > 1 {
		return 11 - r
	}
	return 0
}

func isCPF(d []byte) bool {
	return !same(d) &&
		mod11(weigh(d, 10, 9, 8, 7, 6, 5, 4, 3, 2)) == int(d[9]) &&
		mod11(weigh(d, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2)) == int(d[10])
}

func isCNPJ(d []byte) bool {
	return !same(d) &&
		mod11(weigh(d, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) == int(d[12]) &&
		mod11(weigh(d, 6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) == int(d[13])
}

// isAadhaar is India's: no 0 or 1 first, and Verhoeff's check.
func isAadhaar(d []byte) bool {
	if d[0] < 2 {
		return false
	}
	c := byte(0)
	for i := range d {
		c = dihedral[c][permuted[i%8][d[len(d)-1-i]]]
	}
	return c == 0
}

// Verhoeff's tables: the group D5, and the powers of his permutation.
var (
	dihedral = [10][10]byte{
		{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 4, 0, 6, 7, 8, 9, 5}, {2, 3, 4, 0, 1, 7, 8, 9, 5, 6},
		{3, 4, 0, 1, 2, 8, 9, 5, 6, 7}, {4, 0, 1, 2, 3, 9, 5, 6, 7, 8}, {5, 9, 8, 7, 6, 0, 4, 3, 2, 1},
		{6, 5, 9, 8, 7, 1, 0, 4, 3, 2}, {7, 6, 5, 9, 8, 2, 1, 0, 4, 3}, {8, 7, 6, 5, 9, 3, 2, 1, 0, 4},
		{9, 8, 7, 6, 5, 4, 3, 2, 1, 0},
	}
	permuted = [8][10]byte{
		{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 5, 7, 6, 2, 8, 3, 0, 9, 4}, {5, 8, 0, 3, 7, 9, 6, 1, 4, 2},
		{8, 9, 1, 6, 0, 4, 3, 5, 2, 7}, {9, 4, 5, 3, 1, 2, 6, 8, 7, 0}, {4, 2, 8, 6, 5, 7, 3, 9, 0, 1},
		{2, 7, 9, 3, 8, 0, 6, 4, 1, 5}, {7, 0, 4, 6, 9, 1, 3, 2, 5, 8},
	}
)

// isResidentID is China's (GB 11643): a region, a birthday, and ISO 7064's MOD
// 11-2, where x says that the check is the X that stands for ten.
func isResidentID(d []byte, x bool) bool {
	check := 10
	if !x {
		check = int(d[17])
	}
	year := value(d[6:10])
	return d[0] >= 1 && d[0] <= 8 && year >= 1900 && year < 2100 && isDate(value(d[10:12]), value(d[12:14])) &&
		(weigh(d, 7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)+check)%11 == 1
}
