# The two commands that a fresh machine needs are `make serve` and `make test`.
.PHONY: help serve build test check bench demo-model sdk

help:
	@echo "make serve       build and serve the bundled model on 127.0.0.1:8080 (ARGS=… passes flags on)"
	@echo "make test        all tests that need nothing but Rust; client-library tests too where the SDKs are installed"
	@echo "make check       formatting, lints, documentation"
	@echo "make bench       a short load test against a server of its own, with a chart; then the engine beside its peers, where bench/engine/prepare has installed them"
	@echo "make demo-model  rebuild the bundled models from their text (needs Python; about an hour and a half on one core)"

# What bench/engine/prepare made, outside of git.
BENCH_PEERS ?= build/bench-peers
BENCH_MODELS ?= build/bench-models

build:
	cargo build --release --locked --bin baseload

serve: build
	./target/release/baseload serve --data data $(ARGS)

test:
	cargo test --workspace --locked
	tests/clients/run
	tests/agents/run
	tests/matrix/run
	tests/matrix/run node
	tests/matrix/run standins

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

bench: build
	bench/run
	cargo build --release --locked -p engine --example measure
	@if [ -x "$(BENCH_PEERS)/main/bin/python" ]; then bench/engine/run --peers "$(BENCH_PEERS)" --models "$(BENCH_MODELS)"; \
	else echo "The engine beside its peers: not measured, none is installed in $(BENCH_PEERS). bench/engine/prepare does that, once."; fi

demo-model:
	demo-model/build.sh
