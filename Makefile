# `make run` and `make test` are all that a new machine needs: they install what is missing.

# Outside the working copy, so that a fresh clone builds no tool again.
export TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/communication-service
export PATH := $(TOOLS)/bin:$(TOOLS)/node_modules/.bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench prove schema
.PHONY: format lints docs protos dependencies migrations schema-is-current

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: ## install what the other targets need
	@.ci/setup run test schema dependencies protos migrations

run: ## start the service; ARGS="tenant list" runs another command
	@.ci/setup run
	cargo run --locked -- $(ARGS)

test: ## run the tests; ARGS="-E 'test(webhook)'" picks some
	@.ci/setup test
	cargo test --locked --doc
	.ci/with-test-postgres cargo nextest run --locked $(ARGS)

check: format lints docs protos dependencies migrations schema-is-current ## everything but the tests that a change has to pass

bench: ## measure, side by side with the same SQL without the service
	@.ci/setup run
	.ci/with-test-postgres cargo bench --locked --bench load $(ARGS)

prove: ## keep the promises under kills, faults and load; takes hours
	@.ci/setup test
	FUZZ_INPUTS=$${FUZZ_INPUTS:-5000000} .ci/with-test-postgres cargo nextest run --locked --profile prove --cargo-profile prove --no-capture $(ARGS)

schema: ## write src/schema anew from the migrations
	@.ci/setup schema
	.ci/schema

format:
	cargo fmt --check

lints:
	@.ci/setup build
	cargo clippy --locked --all-targets -- -D warnings

docs:
	@.ci/setup build
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

protos:
	@.ci/setup protos
	buf lint proto
	[ ! -e proto/baseline.binpb ] || buf breaking proto --against proto/baseline.binpb

dependencies:
	@.ci/setup dependencies
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	cargo machete

migrations:
	@.ci/setup migrations
	.ci/migration-check

schema-is-current:
	@.ci/setup schema
	.ci/schema --check
