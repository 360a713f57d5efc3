# The project's commands. `make help` lists them. Everything is installed into .venv in this folder; tools that are built by
# Go (protobuf plugins, and MinIO for the tests) and what Rust compiles for the redaction engine go to a cache folder outside,
# where they are found again by their version.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
READY := .venv/.ready
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/djp-tools

OPENAPI_VERSION := v2.33.0
OPENAPI := $(CACHE)/protoc-gen-openapiv2-$(OPENAPI_VERSION)/protoc-gen-openapiv2

MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
MINIO := $(CACHE)/minio-$(MINIO_VERSION)/minio

SCHEMATHESIS_VERSION := 4.32.5
SCHEMATHESIS := $(CACHE)/schemathesis-$(SCHEMATHESIS_VERSION)/bin/st

GO_PROTO_VERSION := v1.36.12
GO_PROTO := $(CACHE)/protoc-gen-go-$(GO_PROTO_VERSION)/protoc-gen-go
GO_GRPC_VERSION := v1.6.2
GO_GRPC := $(CACHE)/protoc-gen-go-grpc-$(GO_GRPC_VERSION)/protoc-gen-go-grpc
GO_CLIENT := examples/go/.build/client
TS_CLIENT := examples/typescript/dist/main.js
BUF := $(CURDIR)/$(BIN)/buf

# Rust compiles the redaction engine. A machine that has none gets this one, in the cache folder.
RUST_VERSION := 1.95.0
RUST := $(CACHE)/rust-$(RUST_VERSION)
CARGO := $(or $(shell command -v cargo),$(RUST)/bin/cargo)
ENGINE := services/redaction/engine
ENGINE_SOURCES := hatch_build.py $(ENGINE)/Cargo.toml $(ENGINE)/Cargo.lock $(ENGINE)/build.rs $(ENGINE)/.cargo/config.toml $(wildcard $(ENGINE)/src/*.rs)
export CARGO_TARGET_DIR := $(CACHE)/redaction-engine

COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: help
help: ## Say what there is.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

.PHONY: demo
demo: $(READY) ## Answer a question about this project from docs/, offline and without a key.
	$(BIN)/djp run --task "How does DJP Mesh keep a budget from being overdrawn?" --grounded-corpus docs --grounded-required 2

.PHONY: up
up: $(READY) ## Start the whole mesh in one process: gRPC on localhost:7100, REST on localhost:7180.
	$(BIN)/djp up

.PHONY: test
test: $(READY) $(MINIO) $(SCHEMATHESIS) examples ## Run the whole test suite.
	$(BIN)/python -m pytest

.PHONY: lint
lint: $(READY) $(OPENAPI) ## Check style, types, import arrows, contracts, generated files and locks.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@cd $(ENGINE) && export PATH="$(dir $(CARGO)):$$PATH" \
		&& cargo fmt --check && cargo clippy --release --locked --quiet -- -D warnings
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --openapi-plugin $(OPENAPI) --check
	$(BIN)/buf lint djp/v1/descriptors.binpb
	$(BIN)/buf breaking djp/v1/descriptors.binpb --against proto/released.binpb
	@mkdir -p .cache/lock && cp requirements.lock requirements-dev.lock .cache/lock/
	$(COMPILE) pyproject.toml --all-extras -o .cache/lock/requirements-dev.lock
	$(COMPILE) pyproject.toml --extra dashboards --extra minio --extra pdf --extra postgres --extra rest -o .cache/lock/requirements.lock
	@for name in requirements.lock requirements-dev.lock; do diff -q $$name .cache/lock/$$name >/dev/null \
		|| { echo "$$name does not fit pyproject.toml: run \`make lock\` and commit it"; exit 1; }; done

.PHONY: proto
proto: $(READY) $(OPENAPI) ## Generate djp/v1 from proto/: Python, type stubs, descriptor set, OpenAPI.
	$(BIN)/python proto/generate.py --openapi-plugin $(OPENAPI)

.PHONY: examples
examples: $(GO_CLIENT) $(TS_CLIENT) ## Generate, compile and check the clients of examples/ that need it: Go and TypeScript.
	@command -v curl >/dev/null && command -v jq >/dev/null || { echo "curl and jq are needed to run the example in shell; install them from your package manager"; exit 1; }

.PHONY: bench
bench: $(READY) ## Run every benchmark, each within a minute.
	@for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark --quick; done

.PHONY: lock
lock: $(READY) ## Write the lock files anew from pyproject.toml; UPGRADE=1 takes the newest versions.
	$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --extra dashboards --extra minio --extra pdf --extra postgres --extra rest -o requirements.lock
	$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --all-extras -o requirements-dev.lock
	echo uv | $(COMPILE) $(if $(UPGRADE),--upgrade) - -o requirements-uv.lock
	echo rustup | $(COMPILE) $(if $(UPGRADE),--upgrade) - -o requirements-rust.lock
	echo schemathesis==$(SCHEMATHESIS_VERSION) | $(COMPILE) $(if $(UPGRADE),--upgrade) - -o requirements-fuzz.lock

.PHONY: clean
clean: ## Remove what was installed, built and cached in this folder.
	rm -rf examples/go/gen examples/go/.build examples/typescript/{node_modules,dist,src/gen}
	rm -rf services/redaction/djp_redaction/_engine.abi3.so $(ENGINE)/target
	rm -rf .venv .cache build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml requirements-dev.lock requirements-uv.lock $(ENGINE_SOURCES) | $(CARGO)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version), from the lock files; it takes a minute or two ..."
	@$(PYTHON) -m venv .venv || { echo "the venv module is missing: install it (on Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@$(BIN)/uv pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes requirements-dev.lock
	@echo "Compiling the redaction engine (a minute, the first time) ..."
	@PATH="$(dir $(CARGO)):$$PATH" $(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

$(RUST)/bin/cargo:
	@echo "Installing Rust $(RUST_VERSION) into $(RUST) (once) ..."
	@$(PYTHON) -m venv --clear $(RUST)/venv
	@$(RUST)/venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-rust.lock
	@RUSTUP_HOME=$(RUST) CARGO_HOME=$(RUST)/cargo $(RUST)/venv/bin/rustup --quiet toolchain install $(RUST_VERSION) \
		--profile minimal --component clippy,rustfmt --no-self-update
	@ln -sfn $(RUST)/toolchains/$(RUST_VERSION)-*/bin $(RUST)/bin

$(OPENAPI):
	@command -v go >/dev/null || { echo "Go is needed to generate and check the OpenAPI document; install it from your package manager"; exit 1; }
	@echo "Building protoc-gen-openapiv2 $(OPENAPI_VERSION) (once) ..."
	@GOBIN=$(@D) go install github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2@$(OPENAPI_VERSION)

$(MINIO):
	@command -v go >/dev/null || { echo "Go is needed to build MinIO for the tests; install it from your package manager"; exit 1; }
	@echo "Building MinIO $(MINIO_VERSION) (once, some minutes) ..."
	@GOBIN=$(@D) go install github.com/minio/minio@$(MINIO_VERSION)

$(SCHEMATHESIS): | $(READY)
	@echo "Installing schemathesis $(SCHEMATHESIS_VERSION) into an environment of its own (once) ..."
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(@D)/..
	@$(BIN)/uv pip install -q --python $(@D)/python --require-hashes -r requirements-fuzz.lock

$(GO_PROTO) $(GO_GRPC):
	@command -v go >/dev/null || { echo "Go is needed to build the example in Go; install it from your package manager"; exit 1; }
	@echo "Building $(@F) (once) ..."
	@GOBIN=$(@D) go install $(if $(filter $(GO_PROTO),$@),google.golang.org/protobuf/cmd/$(@F)@$(GO_PROTO_VERSION),google.golang.org/grpc/cmd/$(@F)@$(GO_GRPC_VERSION))

$(GO_CLIENT): examples/go/main.go examples/go/go.mod examples/go/go.sum examples/go/buf.gen.yaml djp/v1/descriptors.binpb | $(READY) $(GO_PROTO) $(GO_GRPC)
	@echo "Building the example in Go ..."
	@cd examples/go && rm -rf gen && PATH="$(dir $(GO_PROTO)):$(dir $(GO_GRPC)):$$PATH" $(BUF) generate
	@cd examples/go && go vet . && test -z "$$(gofmt -l main.go)" && go build -o .build/client .

$(TS_CLIENT): examples/typescript/package-lock.json examples/typescript/package.json examples/typescript/tsconfig.json \
		examples/typescript/src/main.ts examples/typescript/buf.gen.yaml djp/v1/descriptors.binpb | $(READY)
	@command -v npm >/dev/null && node -e 'process.exit(+(parseInt(process.versions.node) < 20))' || { \
		echo "Node.js 20 or newer, with npm, is needed to build the example in TypeScript; install it from your package manager"; exit 1; }
	@echo "Building the example in TypeScript ..."
	@cd examples/typescript && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts
	@cd examples/typescript && rm -rf src/gen dist && PATH="$$PWD/node_modules/.bin:$$PATH" $(BUF) generate && npx --no-install tsc
