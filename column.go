package custos

// MatchColumn reports whether a column, written schema.table.column, is one
// that pattern stands for: * is any run of characters but a full stop, and
// every other character is itself. It takes no longer than the product of both
// lengths and allocates nothing.
func MatchColumn(pattern, column string) bool {
	star, back := -1, 0 // where the last * stood, and where what it took ends
	i, j := 0, 0
	for j < len(column) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, back = i, j
			i++
		case i < len(pattern) && pattern[i] == column[j]:
			i++
			j++
		case star >= 0 && column[back] != '.':
			back++
			i, j = star+1, back
		default:
			return false
		}
	}
	for i < len(pattern) && pattern[i] == '*' {
		i++
	}
	return i == len(pattern)
}
