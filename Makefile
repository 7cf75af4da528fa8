# SPDX-License-Identifier: MIT OR Apache-2.0
# `make` alone prints what there is.
SHELL := /bin/sh
CARGO := cargo
BIN := target/release
.DEFAULT_GOAL := help
.PHONY: help preflight build demo test bench replay chain-test fuzz audit fmt lint contracts guests

help: ## This list
	@echo "DIVERSITY: off-chain execution of IoT agreements, settled on a chain. Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

preflight:
	@deploy/preflight

build: preflight contracts ## The binaries in target/release: diversity, sensor-sim, and those of the tests
	$(CARGO) build --release --locked --workspace --bins

demo: build ## A month of 20 locks, three nodes, a chain, a lying node (KEEP=1 leaves it running)
	@$(BIN)/demo $(if $(KEEP),--keep)

test: preflight ## Everything that CI checks; ends with a line of counts
	@tests/run

bench: build ## Figures of the node on this machine, as Markdown
	@$(BIN)/diversity-bench

replay: build ## Replay TRIPS=file.csv and compare with REFERENCE=monthly.csv (RPC=URL,... FUNDER=keystore PASSWORD_FILE=file)
	@test -n "$(TRIPS)" || { echo "say which trips: make replay TRIPS=trips.csv REFERENCE=monthly_by_end.csv" >&2; exit 2; }
	@$(BIN)/replay --trips "$(TRIPS)" $(if $(REFERENCE),--reference "$(REFERENCE)") $(if $(RPC),--rpc "$(RPC)") $(if $(FUNDER),--funder "$(FUNDER)" --password-file "$(PASSWORD_FILE)") $(if $(KEEP),--keep)

chain-test: build ## Settlement, restart, backlog, dispute on the chain at RPC=URL,... (FUNDER=keystore PASSWORD_FILE=file)
	@test -n "$(RPC)" || { echo "say which chain: make chain-test RPC=http://127.0.0.1:8545 FUNDER=rich.json PASSWORD_FILE=rich.password" >&2; exit 2; }
	@$(BIN)/chain-test --rpc "$(RPC)" $(if $(FUNDER),--funder "$(FUNDER)" --password-file "$(PASSWORD_FILE)")

fuzz: ## Fuzz what reads the chain, for MINUTES=10 (needs a nightly toolchain and cargo-fuzz)
	@tests/fuzz/run $(or $(MINUTES),10)

audit: preflight ## Known vulnerabilities in dependencies (needs a network)
	@tests/checks/deny check advisories

fmt: ## Format Rust and Solidity
	$(CARGO) fmt --all
	cd contracts/offchain && $(CARGO) fmt --all
	$(MAKE) -C contracts fmt

lint: preflight ## clippy without warnings, licences, bans, sources
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@tests/checks/deny check bans licenses sources

contracts: preflight ## Install the pinned Solidity tools from contracts/package-lock.json
	@$(MAKE) --no-print-directory -C contracts install

guests: preflight ## Compile the modules (f) to WASM into contracts/offchain/modules
	contracts/offchain/build
