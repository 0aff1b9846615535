# CI and people run these targets. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: help run test examples python javascript lint columns deny fuzz fmt soak bench \
  providers guests peers dist client deb image nodes release toolchain clean

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
WASM := wasm32-wasip2
TOOLS := $(abspath $(TARGET))/tools
DENY := 0.20.2
FUZZ := 0.13.2
PROVIDERS := $(filter-out sdk,$(notdir $(wildcard providers/*)))
GUESTS := $(notdir $(wildcard tests/guests/*))
TESTED := --locked --workspace $(addprefix --exclude guest-,$(GUESTS))
# Tests that cannot run here write their reason to this file (`skipped` in tests/src/skipped.rs).
SKIPPED := $(TARGET)/skipped.txt
# Uses cargo-nextest if it is installed: it is faster and runs each test in its own process.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: providers ## start a broker with a demo registry; prints a token and lines to paste
	$(CARGO) build --locked -p rise-broker
	deploy/development/run.sh $(TARGET)/debug/rise-broker

# Programs and tests are built at once: separate builds differ in a feature of a dependency, and
# compile wasmtime twice.
test: providers guests python peers ## run every test, against real peers
	@rm -f $(SKIPPED)
	$(CARGO) build $(TESTED) --bins --tests
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run $(TESTED)
else
	$(CARGO) test $(TESTED) --lib --bins --tests
endif
	$(CARGO) test --locked -p rise-provider --doc
	@if test -s $(SKIPPED); then echo "tests that did not run here:"; sort -u $(SKIPPED); fi

# The Python example downloads 100 MB; the JavaScript example downloads 385 MB.
python javascript:
	@$(MAKE) --no-print-directory -C examples/$@ OUT=$(abspath $(TARGET))/guests/imaginary-$@.wasm

examples: guests python javascript ## build and check the examples in Rust, Python, JavaScript
	$(CARGO) build --locked -p rise-broker -p rise-provider-kit
	$(CARGO) test --locked -p rise-broker-tests \
	  --test wider_guests --test provider_new --test author_guide -- --include-ignored

lint: toolchain columns ## formatting, long lines, clippy, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --target $(WASM) $(addprefix -p rise-provider-,$(PROVIDERS)) \
	  $(addprefix -p guest-,$(GUESTS)) -p imaginary -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps -p rise-provider
	@if command -v cargo-deny >/dev/null || test -x $(TOOLS)/bin/cargo-deny; \
	  then $(MAKE) --no-print-directory deny; \
	  else echo "deny.toml was not checked: \`make deny\` installs cargo-deny and does"; fi

columns: ## list lines of more than 100 columns
	@.ci/columns

# $(call install,PROGRAM@VERSION,+TOOLCHAIN): once, into target/tools; it compiles for minutes.
install = command -v $(firstword $(subst @, ,$(1))) >/dev/null || \
  test -x $(TOOLS)/bin/$(firstword $(subst @, ,$(1))) || \
  $(CARGO) $(2) install --locked --root $(TOOLS) --target-dir $(TOOLS)/build $(1)

# Advisories need their database from the network, the other checks do not.
deny: ## licences, sources and bans of deny.toml; advisories where their database can be fetched
	@$(call install,cargo-deny@$(DENY))
	PATH="$(TOOLS)/bin:$$PATH" $(CARGO) deny --locked check licenses sources bans
	@PATH="$(TOOLS)/bin:$$PATH"; if $(CARGO) deny fetch db 2>/dev/null; \
	  then $(CARGO) deny --locked check advisories; \
	  else echo "advisories were not checked: their database cannot be fetched here"; fi

# There is no sanitizer: the only unsafe code is two C library calls. New inputs stay in
# target/fuzz.
fuzz: providers ## search with libFuzzer on nightly Rust, SECONDS_EACH=60
	@$(call install,cargo-fuzz@$(FUZZ),+nightly)
	@export PATH="$(TOOLS)/bin:$$PATH"; $(CARGO) +nightly fuzz build --sanitizer none; \
	for name in $(or $(TARGETS),$(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))); do \
	  mkdir -p $(abspath $(TARGET))/fuzz/$$name; \
	  seeds="$(CURDIR)/fuzz/corpus/$$name"; \
	  if [ $$name = component ]; then seeds="$$seeds $(CURDIR)/dist/providers"; fi; \
	  $(CARGO) +nightly fuzz run --sanitizer none $$name $(abspath $(TARGET))/fuzz/$$name $$seeds -- \
	    -max_total_time=$(or $(SECONDS_EACH),60) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1; \
	done

fmt: ## format everything
	$(CARGO) fmt --all

# Peers first: what they need and lack is known before minutes of compiling.
bench: peers providers ## measure, as ratios in one run (docs/benchmarks.md)
	$(CARGO) build --locked --release -p rise-broker
	$(CARGO) bench --locked -p rise-broker-tests --bench ratios --bench throughput --bench tokens \
	  --bench issuing
	$(CARGO) build --locked --profile cli -p rise-cli
	$(CARGO) bench --locked -p rise-broker-tests --bench client

soak: peers providers guests ## kill the broker 600 times, attack it, hang up on it (two hours)
	$(CARGO) build --locked -p rise-broker
	OPENAPI_EXAMPLES=1000 $(CARGO) test --locked -p rise-broker-tests --test behaviour openapi::
	EVERY_CASE=1 $(CARGO) test --locked -p rise-broker-tests --test behaviour repositories_safety::
	FIRST_PUSHES=1000 $(CARGO) test --locked -p rise-broker-tests --test behaviour first_pushes
	$(CARGO) bench --locked --profile dev -p rise-broker-tests --bench soak
	$(CARGO) build --locked --release -p rise-broker -p rise-cli
	ulimit -n 8192; $(CARGO) bench --locked -p rise-broker-tests --bench soak_edge
	$(CARGO) bench --locked -p rise-broker-tests \
	  --bench soak_reload --bench soak_guests --bench soak_cancellation --bench soak_fleet \
	  --bench soak_keys --bench soak_outstanding --bench audit_postgres \
	  --bench soak_postgres --bench soak_rolling \
	  --bench soak_shared --bench soak_everything

# Builds only the cdylib: together with an rlib, cargo disables link-time optimization.
providers: toolchain ## build the providers into dist/providers
	@mkdir -p dist/providers
	@for name in $(PROVIDERS); do \
	  $(CARGO) rustc --locked --profile guest --target $(WASM) -p rise-provider-$$name \
	    --crate-type cdylib; \
	  install -m 644 $(TARGET)/$(WASM)/guest/rise_provider_$${name//-/_}.wasm \
	    dist/providers/$$name.wasm; \
	done

guests: toolchain ## build the components that tests use: those that misbehave, the example in Rust
	@$(CARGO) build --locked --profile guest --target $(WASM) $(addprefix -p guest-,$(GUESTS))
	@$(CARGO) rustc --locked --profile guest --target $(WASM) -p imaginary --crate-type cdylib
	@mkdir -p $(TARGET)/guests
	@for name in $(GUESTS); do \
	  install -m 644 $(TARGET)/$(WASM)/guest/guest_$${name//-/_}.wasm $(TARGET)/guests/$$name.wasm; \
	done
	@install -m 644 $(TARGET)/$(WASM)/guest/imaginary.wasm $(TARGET)/guests/imaginary.wasm

# docker-registry, skopeo, two AWS emulators, OIDC providers, schemathesis, clients of registries
# and of vendors.
peers: ## set up what tests talk to
	@tests/peers/setup.sh

# The commit that is built, for labels and provenance.
REVISION := git describe --always --abbrev=40 --exclude '*' --dirty=-modified

dist: providers client ## release builds: dist/bin, dist/providers, dist/share
	$(CARGO) build --locked --release -p rise-broker -p rise-provider-kit
	install -D -t dist/bin $(TARGET)/release/rise-broker $(TARGET)/release/rise-provider
	dist/bin/rise-broker man dist/share/man/man1
	for shell in bash fish zsh; do \
	  dist/bin/rise-broker completions $$shell >dist/share/completions/rise-broker.$$shell; \
	done
	$(REVISION) >dist/revision

deb: ## Debian packages of what `make dist` has built, in dist/deb
	deploy/debian/build

release: ## archive, programs, packages and SHA256SUMS of what has been built, in dist/release
	deploy/release/build

image: ## the image of what `make dist` has built, in dist/image, by buildah
	deploy/image/build

nodes: ## the image of the nodes' DaemonSet of what `make client` has built, in dist/nodes
	deploy/nodes/build

# With musl-gcc (Debian: musl-tools) the client is static: it runs on every Linux, whatever its C
# library.
MUSL := $(if $(shell command -v musl-gcc),$(shell uname -m)-unknown-linux-musl)
client: ## small builds of the client's programs in dist/bin, their manual and completions
ifeq ($(MUSL),)
	@echo "no musl-gcc (Debian: musl-tools): the client will need the C library of this machine"
else
	@test -d "$$(rustc --print sysroot)/lib/rustlib/$(MUSL)" || rustup target add $(MUSL)
endif
	$(CARGO) build --locked --profile cli $(addprefix --target ,$(MUSL)) -p rise-cli
	install -D -t dist/bin $(addprefix $(TARGET)/$(addsuffix /,$(MUSL))cli/, \
	  rise-registry docker-credential-rise)
	mkdir -p dist/share/man/man1 dist/share/completions
	dist/bin/rise-registry man dist/share/man/man1
	for shell in bash fish zsh; do \
	  dist/bin/rise-registry completions $$shell >dist/share/completions/rise-registry.$$shell; \
	done
	$(REVISION) >dist/client-revision

toolchain:
	@command -v $(CARGO) >/dev/null || { echo "install Rust first: https://rustup.rs"; exit 1; }
	@test -d "$$(rustc --print sysroot)/lib/rustlib/$(WASM)" || rustup target add $(WASM)

clean: ## remove everything that was built; keeps state/
	$(CARGO) clean
	rm -rf dist
