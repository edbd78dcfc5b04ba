# tiermesh: what there is to run. "make help" lists it.

GO       ?= go
LINTER   := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s
SECONDS  ?= 60
CASES    ?= 1000000
EVENTS   ?= 1200
RUNS     ?= 200
SEED     ?= 1
PKG      ?= ./...

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the command to bin/tiermesh
	$(GO) build -buildvcs=auto -o bin/tiermesh ./cmd/tiermesh

.PHONY: demo
demo: ## play the main job (EVENTS=1200)
	$(GO) run ./cmd/tiermesh demo --events $(EVENTS)

.PHONY: test
test: ## all tests, once (PKG=./...)
	$(GO) test -timeout 10m $(PKG)

.PHONY: test-race
test-race: ## all tests with the race detector (PKG=./...)
	$(GO) test -race -timeout 15m $(PKG)

.PHONY: check
check: format lint generated layers test-race ## everything a commit must pass

.PHONY: format
format: ## fail on files that are not gofmt-ed
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not gofmt-ed (make fmt):"; echo "$$out"; exit 1; fi

.PHONY: fmt
fmt: ## format the sources
	gofmt -w .

.PHONY: lint
lint: ## run the pinned linter
	$(GO) vet ./...
	$(GO) run $(LINTER) run --allow-parallel-runners ./...

.PHONY: layers
layers: ## the layer table, sizes, and tests that the designs name
	$(GO) test ./testbed/layers

.PHONY: generate
generate: ## write what is derived from other files
	$(GO) test ./testbed/layers -run TestLinterConfig -update
	$(GO) mod tidy

.PHONY: generated
generated: ## fail when a derived file is out of date
	$(GO) mod tidy -diff
	$(GO) test ./testbed/layers -run TestLinterConfig

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (30s)
	@grep -rn --include='*_test.go' -o 'func Fuzz[A-Za-z]*' . | sed 's/^\.\///; s/:[0-9]*:func / /' | \
	while read -r file name; do \
		echo "== $$name ($$(dirname $$file)), $(FUZZTIME)"; \
		$(GO) test ./$$(dirname $$file) -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x || exit 1; \
	done

.PHONY: fuzz-engine
fuzz-engine: ## damage changes CASES (1000000) times; what passes the validator must not kill an engine
	TIERMESH_FUZZ_ENGINE=$(CASES) $(GO) test ./crdt/engine -run 'TestFuzzEngine$$' -count 1 -v -timeout 2h

.PHONY: soak
soak: ## kill a node under its writers for SECONDS (60), again and again
	TIERMESH_SOAK=$(SECONDS)s $(GO) test ./cmd/tiermesh -run TestSIGKILLKeepsAcknowledged -count 1 -v -timeout 24h

.PHONY: sim
sim: ## play RUNS (200) random scenarios in virtual time, from SEED (1) on, and shrink those that fail
	TIERMESH_SIM_RUNS=$(RUNS) TIERMESH_SIM_SEED=$(SEED) $(GO) test ./testbed/sim -run 'TestRandom$$' -count 1 -v -timeout 6h

.PHONY: bench
bench: ## benchmarks, each beside its baseline (PKG=./...)
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)

.PHONY: cover
cover: ## statement coverage by package, details in cover.out
	$(GO) test -coverprofile cover.out -coverpkg ./... $(PKG) > /dev/null
	$(GO) tool cover -func cover.out | awk '{split($$1, p, ":"); n = split(p[1], d, "/"); f = p[1]; sub("/" d[n] "$$", "", f); gsub("%", "", $$3); if ($$1 != "total:") {s[f] += $$3; c[f]++} else print "total (statements)", $$3 "%"} END {for (f in s) printf "%-55s %5.1f%% (mean of functions)\n", f, s[f]/c[f]}' | sort
