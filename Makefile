# What people and CI run. `make help` lists it.

# Tools that are not on the machine go here.
CACHE ?= $(CURDIR)/.cache
TOOLS := $(CACHE)/tools
export PATH := $(TOOLS)/bin:$(TOOLS)/venv/bin:$(PATH)

CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
CARGO_MACHETE := 0.9.2
WIT_BINDGEN := 0.63.0
OAPI_CODEGEN := 2.8.2
OASDIFF := 1.37.0
CARGO_DEB := 3.8.0
HADOLINT := 2.15.1
RUFF := 0.17.6

# Absolute, since scripts change folders.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# All at once and with what only tests need, as `cargo test` does: otherwise tokio and all that depends
# on it would be built with other features, once more.
BUILD := cargo build --locked --workspace --all-targets

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: ## Show a service, an executor in Python, a plugin and their tasks; CI=1 stops by itself
	cargo build --locked --workspace
	$(TARGET)/debug/nightshift demo $(if $(CI),--ci)

STAGES := check contract test-code test-clients fuzz-short chaos-short plugins test-executor test-django \
	helm alerts proxy tom

.PHONY: test
test: ## Everything that CI runs; says how long each stage took
	@for stage in $(STAGES); do \
		began=$$(date +%s); \
		$(MAKE) --no-print-directory $$stage CI=1 || exit; \
		echo "== $$stage took $$(($$(date +%s) - began)) s"; \
	done

SHELL_SCRIPTS = .ci/run $(shell git ls-files '*.sh') $(wildcard packaging/debian/p*)

.PHONY: check
check: tools ## Format, lints, documentation, dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	cargo-deny --all-features check bans licenses sources
	cargo-machete --with-metadata
	hadolint Dockerfile
	ruff check --no-cache .
	ruff format --no-cache --check .
	shellcheck $(SHELL_SCRIPTS)

.PHONY: test-code
test-code: tools ## All tests, on SQLite and on a PostgreSQL of their own
	# A panic's message and place say enough; behind a backtrace of the runtime they get lost.
	RUST_BACKTRACE=0 scripts/postgres.sh cargo test --locked --workspace

.PHONY: test-sqlite
test-sqlite: ## The tests that need no PostgreSQL
	cargo test --locked --workspace -- --skip postgres

.PHONY: chaos
chaos: MINUTES ?= 10
chaos: SEED ?= 1
chaos: tools ## Hurt three replicas and all around them for MINUTES, by SEED
	cargo build --locked --release -p nightshift
	chaos/chaos.py --minutes $(MINUTES) --seed $(SEED) --binary $(TARGET)/release/nightshift

.PHONY: chaos-short
chaos-short: tools ## The same for one minute, with the build that the tests use
	$(BUILD)
	chaos/chaos.py --minutes 1

.PHONY: stress-memory
stress-memory: MINUTES ?= 5
stress-memory: ## Ask a service that has 1 GiB for more, MINUTES in each way on each engine (as root)
	cargo build --locked --release -p nightshift
	chaos/memory.py --minutes $(MINUTES) --binary $(TARGET)/release/nightshift $(OPTIONS)

.PHONY: failover
failover: tools ## Lose PostgreSQL's primary in each way, and see writes go on with the standby
	$(BUILD)
	chaos/failover.py --binary $(TARGET)/debug/nightshift

.PHONY: fuzz-parsers
fuzz-parsers: SECONDS ?= 600
fuzz-parsers: ## Feed what reads bytes from outside with nonsense, each parser for SECONDS
	TOOLS="$(TOOLS)" CARGO_FUZZ=$(CARGO_FUZZ) SECONDS_EACH=$(SECONDS) scripts/fuzz.sh $(TARGETS)

.PHONY: plugins
plugins: tools ## Build the example plugins, run their tests and try them
	$(BUILD)
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift OUT=$(TARGET)/plugins \
		WIT_BINDGEN=$(WIT_BINDGEN) scripts/plugins.sh

.PHONY: test-django
test-django: tools ## The Django package on each generation of Django's task framework
	$(BUILD)
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift \
		scripts/postgres.sh scripts/django.sh

.PHONY: test-executor
test-executor: $(if $(URL),,tools) ## Check the executor at URL (its SECRET=whsec_...), or all of examples/executors
	$(BUILD)
ifdef URL
	@NIGHTSHIFT_SECRET=$(SECRET) $(TARGET)/debug/nightshift executor check "$(URL)" $(OPTIONS)
else
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift scripts/executors.sh
endif

.PHONY: contract
contract: tools ## Lint the OpenAPI document, and compare it with the last release's
	TOOLS="$(TOOLS)" OASDIFF=$(OASDIFF) scripts/contract.sh

.PHONY: baseline
baseline: docs ## Make the present OpenAPI document the one that later ones must not break
	cp openapi/openapi.json openapi/baseline.json

.PHONY: test-clients
test-clients: tools ## Generate clients in four languages, and use them with a real service
	$(BUILD)
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift OUT=$(TARGET)/clients \
		OAPI_CODEGEN=$(OAPI_CODEGEN) scripts/clients.sh

.PHONY: fuzz
fuzz: SECONDS ?= 450
fuzz: SEED ?= $(shell date +%s)
fuzz: tools ## Send what the OpenAPI document allows and forbids, for SECONDS on each engine, by SEED
	$(BUILD)
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift \
		scripts/postgres.sh scripts/fuzz-api.sh $(SECONDS) 1000 $(SEED)

.PHONY: fuzz-short
fuzz-short: tools ## The same for 40 s each, by a fixed seed
	$(BUILD)
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift \
		scripts/postgres.sh scripts/fuzz-api.sh 40 10 1

.PHONY: helm
helm: tools ## Check the chart and compose.yaml, and start the service as the chart does
	$(BUILD)
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift \
		scripts/postgres.sh scripts/helm.sh

.PHONY: alerts
alerts: tools ## Have a real Prometheus read the alert rules and a service, and answer the dashboard
	$(BUILD)
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift scripts/alerts.sh

.PHONY: proxy
proxy: tools ## Restart two services under load behind nginx and HAProxy, as docs/PROXY.md has them
	$(BUILD)
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/debug/nightshift \
		scripts/postgres.sh scripts/proxy.sh

.PHONY: image
image: tools ## Build the container with buildah, and have it do tasks; BINARY=FILE compiles nothing
	TOOLS="$(TOOLS)" BINARY=$(BINARY) scripts/image.sh

.PHONY: deb
deb: ## Build the Debian package, and look at it
	cargo build --locked --release -p nightshift
	TOOLS="$(TOOLS)" CARGO_DEB=$(CARGO_DEB) NIGHTSHIFT=$(TARGET)/release/nightshift \
		OUT=$(TARGET)/debian scripts/deb.sh

.PHONY: tom
tom: tools ## Follow the TOM manual with Nightshift, then do a TOM's work; CI=1 stops by itself
	$(BUILD)
	TOOLS="$(TOOLS)" CI=$(CI) NIGHTSHIFT=$(TARGET)/debug/nightshift \
		scripts/tom.sh

.PHONY: docs
docs: ## Write openapi/openapi.json and openapi-3.0.json, docs/ERRORS.md and the metrics of docs/OPERATING.md anew
	UPDATE=1 cargo test --locked -p nightshift --test it contract

.PHONY: bench
bench: ## What one service takes, on both engines
	cargo build --locked --release -p nightshift -p nightshift-bench
	bench/bench.sh

.PHONY: bench-full
bench-full: ## Whether a million finished tasks slow a drain down, on both engines
	cargo build --locked --release -p nightshift -p nightshift-bench
	bench/full.sh

.PHONY: bench-events
bench-events: ## What a thousand readers of events cost, on both engines
	cargo build --locked --release -p nightshift -p nightshift-bench
	bench/events.sh

.PHONY: bench-logs
bench-logs: ## Whether a flood of log lines keeps others from the writer, on both engines
	cargo build --release --locked -p nightshift -p nightshift-bench
	bench/logs.sh $(ARGS)

.PHONY: bench-copy
bench-copy: ## How long `nightshift copy` takes for 100,000 tasks of every state
	cargo build --locked --release -p nightshift
	NIGHTSHIFT=$(TARGET)/release/nightshift scripts/postgres.sh bench/copying.py

.PHONY: bench-snapshot
bench-snapshot: SECONDS ?= 180
bench-snapshot: ## Whether a transaction left open on PostgreSQL for SECONDS slows claims
	cargo build --locked --release -p nightshift
	NIGHTSHIFT=$(TARGET)/release/nightshift SECONDS_HELD=$(SECONDS) DURABLE=1 \
		scripts/postgres.sh bench/snapshot.py

.PHONY: bench-sizing
bench-sizing: ## What disk and memory tasks and connections take, on both engines
	cargo build --locked --release -p nightshift
	NIGHTSHIFT=$(TARGET)/release/nightshift scripts/postgres.sh bench/sizing.py

.PHONY: bench-django
bench-django: tools ## The Django package beside django-tasks-db
	cargo build --locked --release -p nightshift
	TOOLS="$(TOOLS)" NIGHTSHIFT=$(TARGET)/release/nightshift \
		bench/django.sh

.PHONY: bench-plugins
bench-plugins: plugins ## What plugins cost, and whether they leave the service alone
	cargo build --locked --release -p nightshift -p nightshift-guests
	$(TARGET)/release/nightshift-guests > $(TARGET)/plugins/guest.component
	python3 bench/plugins.py $(TARGET)/release/nightshift $(TARGET)/plugins/guest.component \
		$(TARGET)/plugins
	"$$(TOOLS="$(TOOLS)" scripts/python.sh plugins/examples/plugins.txt 11)/bin/python" \
		plugins/examples/source-extraction/compare.py $(TARGET)/release/nightshift \
		$(TARGET)/plugins/images $(TARGET)/plugins/source-extraction-c.wasm \
		$(TARGET)/plugins/source-extraction-python.wasm

.PHONY: bench-enqueue
bench-enqueue: ## How many single POST /tasks a second (needs wrk)
	cargo build --locked --release -p nightshift
	bench/enqueue.sh

.PHONY: bench-claim
bench-claim: ## Whether a million other tasks slow a claim down
	cargo build --locked --release -p nightshift
	bench/claim.py

.PHONY: tools
tools: ## Install what is missing
	TOOLS="$(TOOLS)" CARGO_DENY=$(CARGO_DENY) CARGO_MACHETE=$(CARGO_MACHETE) \
		HADOLINT=$(HADOLINT) RUFF=$(RUFF) scripts/tools.sh
