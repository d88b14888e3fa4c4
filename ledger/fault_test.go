package ledger

import (
	"os"

	"github.com/custos-gateway/custos/internal/durable"
)

var testFS = durable.OS

func listNames(dir string) ([]string, error) { return durable.OS.List(dir) }

var _ = os.ErrNotExist
