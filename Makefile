# The two commands are `make demo` and `make test`.
.DELETE_ON_ERROR:

custos: FORCE
	CGO_ENABLED=0 go build -trimpath -o $@ ./cmd/custos

# All of it on loopback; `make demo ARGS=--once` shows it and ends.
demo: custos
	@.ci/install demo
	@./custos demo $(ARGS)

# Every test, against real servers that it starts itself.
test: custos
	@.ci/install test
	@go test -json -timeout 20m $(ARGS) ./... | go run ./internal/testreport

# Ratios against direct access, pgbouncer and haproxy; see docs/performance.md.
bench: custos
	@.ci/install test
	@go run ./bench $(ARGS)

FORCE:
.PHONY: demo test bench FORCE
