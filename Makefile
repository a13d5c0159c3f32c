# `make help` lists the targets. `make demo` and `make test` do all the set-up that a fresh machine needs.

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

GO ?= go
# How long `make fuzz` runs each fuzz target.
FUZZTIME ?= 10s

# What kmsctl and the Go client compile for, of systems that the tests do not run on. (kmsd is for Linux and macOS.)
PLATFORMS := darwin/amd64 darwin/arm64 linux/arm64 windows/amd64 windows/arm64

BIN := bin
TOOLS := $(BIN)/tools
PINNED := benchstat buf golangci-lint protoc-gen-go-grpc
# The only package with cgo: what links it is not a package without cgo.
CGO_PACKAGE := github.com/keyholt/keyholt/hsm/pkcs11hsm

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][a-z-]*:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: deps build ## Run the main job against SoftHSM2 with the real binaries
	softhsm-test/demo/demo.sh

.PHONY: test
test: deps $(TOOLS)/strictreport ## Run all tests; with CI set, a skipped test is a failure
ifeq ($(CI),)
	CGO_ENABLED=1 $(GO) test ./...
else
	set -o pipefail; CGO_ENABLED=1 $(GO) test -json -count=1 ./... | $(TOOLS)/strictreport
endif

.PHONY: check
check: check-makefile check-modules lint check-breaking check-generate check-imports check-tools race ## Run every check that is not a plain test run

.PHONY: build
build: ## Build kmsd (with cgo), kmsctl and kmsbench (without) into ./bin
	CGO_ENABLED=1 $(GO) build -trimpath -o $(BIN)/kmsd ./cmd/kmsd
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/kmsctl ./cmd/kmsctl
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/kmsbench ./cmd/kmsbench

.PHONY: lint
lint: deps $(TOOLS)/golangci-lint $(TOOLS)/buf ## Lint the Go code and the wire contract
	$(GO) vet ./...
	cd tools && $(GO) vet ./...
	$(TOOLS)/golangci-lint run
	cd tools && ../$(TOOLS)/golangci-lint run --config ../.golangci.yml
	$(TOOLS)/buf lint
	$(TOOLS)/buf format --diff --exit-code

.PHONY: generate
generate: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## Generate Go from the wire contract, and whatever go:generate names
	$(TOOLS)/buf build
	find proto -name '*.pb.go' -delete
	$(TOOLS)/buf generate
	$(GO) generate ./...

.PHONY: race
race: deps ## Run the tests of the packages without cgo, and of the HSM packages, under the race detector
	CGO_ENABLED=1 $(GO) test -race $$($(GO) list -pgo=off -f '{{$$cgo := eq .ImportPath "$(CGO_PACKAGE)"}}{{range .Deps}}{{if eq . "$(CGO_PACKAGE)"}}{{$$cgo = true}}{{end}}{{end}}{{if not $$cgo}}{{.ImportPath}}{{end}}' ./...) ./hsm/... ./softhsm-test/...

# Runs one of the long proofs, with its closing line last. N says how many changes it makes.
define prove
@line=$$(mktemp); trap 'rm -f "$$line"' EXIT; \
CGO_ENABLED=1 $(GO) test ./softhsm-test/prove -count=1 -timeout=2h -v -run '^$(1)$$' \
	-prove.n=$(2) -prove.bounds -prove.out="$$line" && cat "$$line"
endef

.PHONY: prove-revocation
prove-revocation: deps ## Prove on four replicas, some of them failing, that a revocation holds when it has returned (N=300)
	$(call prove,TestRevocation,$(or $(N),300))

.PHONY: prove-rotation
prove-rotation: deps ## Prove on four replicas under load that a rotation holds when it has returned (N=200)
	$(call prove,TestRotation,$(or $(N),200))

.PHONY: prove-failover
prove-failover: deps ## Prove on four replicas that they recover when PostgreSQL is restarted or fails over (N=20)
	$(call prove,TestFailover,$(or $(N),20))

.PHONY: prove-crash
prove-crash: deps ## Prove on both stores that a kill -9 loses nothing that was acknowledged (N=200)
	$(call prove,TestCrash,$(or $(N),200))

.PHONY: prove-scale
prove-scale: deps ## Prove what start, memory and changes cost with many keys of three versions (N=10000)
	CGO_ENABLED=1 $(GO) test ./kms -run '^$$' -bench '^Benchmark(Apply|LookAgain)$$'
	$(call prove,TestScale,$(or $(N),10000))

.PHONY: bench
bench: deps build ## Measure kmsd: every scenario, plots, a page of HTML in bench/out (under 10 minutes)
	$(BIN)/kmsbench run --out bench/out

.PHONY: bench-quick
bench-quick: deps build ## Measure kmsd: what the claims of docs/benchmarks.md need (under 3 minutes)
	$(BIN)/kmsbench run --quick --out bench/out

.PHONY: fuzz
fuzz: ## Fuzz every fuzz target for FUZZTIME (default 10s)
	@GO="$(GO)" FUZZTIME="$(FUZZTIME)" tools/fuzz.sh

.PHONY: tools
tools: $(addprefix $(TOOLS)/,$(PINNED) protoc-gen-go strictreport) ## Build the pinned developer tools into ./bin/tools

.PHONY: deps
deps: ## Install the system packages that are missing (apt, brew)
	@GO="$(GO)" tools/deps.sh

.PHONY: clean
clean: ## Delete what the other targets made, the tools included
	rm -rf $(BIN) bench/out .demo

.PHONY: check-makefile
check-makefile: ## Check that help lists every target
	@awk '/^[a-z][a-z-]*:([^=]|$$)/ && !/## ./ { print FILENAME ":" FNR ": target without a ## line: " $$0; bad = 1 } END { exit bad }' $(MAKEFILE_LIST)

.PHONY: check-modules
check-modules: ## Check that both go.mod files are tidy
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff

.PHONY: check-breaking
check-breaking: $(TOOLS)/buf ## Compare the wire contract with that of the last release
	@release=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) || { echo "no release yet: nothing to compare the wire contract with"; exit 0; }; \
	echo "$(TOOLS)/buf breaking --against .git#tag=$$release"; \
	$(TOOLS)/buf breaking --against ".git#tag=$$release"

.PHONY: check-generate
check-generate: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## Check that the generated files are those that generate makes
	tools/check-generate.sh

.PHONY: check-imports
check-imports: ## Check the import rules between the packages, and that kmsctl and the Go client compile for PLATFORMS
	$(GO) test -count=1 -run '^TestImportRules' ./softhsm-test
	@for platform in $(PLATFORMS); do \
		echo "$$platform: kmsctl, kms/client"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/kmsctl ./kms/client/... || exit; \
	done

.PHONY: check-tools
check-tools: ## Test the programs of the tools module
	cd tools && $(GO) test ./...

# The tools are built once, and again when their pins or the toolchain change: a linter built by an
# older Go refuses newer code.
FORCE:

$(TOOLS)/.go-version: FORCE
	@mkdir -p $(@D)
	@version=$$($(GO) version); [ "$$version" = "$$(cat $@ 2>/dev/null)" ] || echo "$$version" > $@

$(addprefix $(TOOLS)/,$(PINNED)): tools/go.mod tools/go.sum $(TOOLS)/.go-version
	cd tools && CGO_ENABLED=0 $(GO) build -o ../$@ $$($(GO) list tool | grep '/$(@F)$$')
	@touch $@

# Of the version that the product links, so that generated code and runtime agree.
$(TOOLS)/protoc-gen-go: go.mod go.sum $(TOOLS)/.go-version
	CGO_ENABLED=0 $(GO) build -o $@ google.golang.org/protobuf/cmd/protoc-gen-go
	@touch $@

$(TOOLS)/strictreport: tools/strictreport/main.go $(TOOLS)/.go-version
	cd tools && CGO_ENABLED=0 $(GO) build -o ../$@ ./strictreport
	@touch $@
