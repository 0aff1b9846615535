# What CI runs, and people too. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: help run test lint fmt bench soak providers guests peers dist toolchain clean

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
WASM := wasm32-wasip2
PROVIDERS := $(filter-out sdk,$(notdir $(wildcard providers/*)))
GUESTS := $(notdir $(wildcard tests/guests/*))
# nextest where it is installed: it runs tests in processes of their own, and faster.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: providers ## start a broker with a demo registry; prints a token and lines to paste
	$(CARGO) build --locked -p rise-broker
	deploy/development/run.sh $(TARGET)/debug/rise-broker

test: providers guests peers ## run every test, against real peers
	$(CARGO) build --locked -p rise-broker
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --locked --workspace $(addprefix --exclude guest-,$(GUESTS))
else
	$(CARGO) test --locked --workspace --lib --bins --tests $(addprefix --exclude guest-,$(GUESTS))
endif
	$(CARGO) test --locked -p rise-provider --doc

lint: toolchain ## formatting, clippy, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --target $(WASM) $(addprefix -p rise-provider-,$(PROVIDERS)) $(addprefix -p guest-,$(GUESTS)) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps -p rise-provider
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check licenses sources bans; else echo "cargo-deny is not installed: deny.toml was not checked"; fi

fmt: ## format everything
	$(CARGO) fmt --all

bench: providers ## measure, as ratios in one run (docs/benchmarks.md)
	$(CARGO) build --locked --release -p rise-broker
	$(CARGO) bench --locked -p rise-broker-tests --bench ratios

soak: providers peers ## kill the broker 600 times under load and compare what left with its audit log (ten minutes)
	$(CARGO) build --locked -p rise-broker
	$(CARGO) bench --locked --profile dev -p rise-broker-tests --bench soak

# A cdylib alone: next to an rlib, cargo switches link-time optimization off.
providers: toolchain ## build the providers into dist/providers
	@mkdir -p dist/providers
	@for name in $(PROVIDERS); do \
	  $(CARGO) rustc --locked --profile guest --target $(WASM) -p rise-provider-$$name --crate-type cdylib; \
	  install -m 644 $(TARGET)/$(WASM)/guest/rise_provider_$${name//-/_}.wasm dist/providers/$$name.wasm; \
	done

guests: toolchain ## build the misbehaving components that tests use
	@$(CARGO) build --locked --profile guest --target $(WASM) $(addprefix -p guest-,$(GUESTS))
	@mkdir -p $(TARGET)/guests
	@for name in $(GUESTS); do install -m 644 $(TARGET)/$(WASM)/guest/guest_$${name//-/_}.wasm $(TARGET)/guests/$$name.wasm; done

peers: ## set up what tests talk to: docker-registry, skopeo, two AWS emulators, an OIDC provider
	@tests/peers/setup.sh

dist: providers ## release builds: dist/bin and dist/providers
	$(CARGO) build --locked --release -p rise-broker
	install -D $(TARGET)/release/rise-broker dist/bin/rise-broker

toolchain:
	@command -v $(CARGO) >/dev/null || { echo "install Rust first: https://rustup.rs"; exit 1; }
	@test -d "$$(rustc --print sysroot)/lib/rustlib/$(WASM)" || rustup target add $(WASM)

clean: ## remove everything that was built; keeps state/
	$(CARGO) clean
	rm -rf dist
