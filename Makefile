# make demo         maps of examples/photos and a co-saliency sheet of examples/group, without TensorFlow
# make test         all tests, on TensorFlow
# make test-jax     the tests of layers, models, backbones, losses, metrics and optimizers, on JAX
# make test-oldest  tests with the oldest versions that pyproject.toml allows, in .venv-oldest; not part of .ci/run
# make test-kserve  the REST client with KServe's model server, in .venv-kserve; not part of .ci/run
# make lint         ruff check and ruff format --check
# make docs         the documentation site, in build/docs/site
# make web          copies LiteRT.js from npm to export/web/litert, for `keras-recnet web`; needs npm
# make verify       exports the shipped presets and the networks of the papers and verifies every export; takes minutes
# make soak         10,000 requests, a tenth of them bad files, to a batching server: answers and memory; 10 minutes
# make bench        speed of prediction, of the training pipeline and of the evaluation
#
# Each target creates .venv if it is missing. `make demo` installs what prediction needs; the others, except
# `make test-oldest` and `make test-kserve`, add the developer tools to the same .venv. PYTHON=python3.12 selects an
# interpreter; the default is the first suitable one.

VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= maps

IS_SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(IS_SUITABLE)' 2>/dev/null && echo $$python && break; done)

# No TensorFlow start-up messages between the results.
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Folder of DUTS-TR and ECSSD-100. Without it, tests of real data are skipped and `make bench` uses examples/photos.
DATA := $(KERAS_RECNET_DATA)

# One process per core: starting TensorFlow and tracing a network use a single core. Each process needs about 1 GB.
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist worksteal --durations=15

CORE_TESTS := tests/backbones tests/layers tests/models tests/losses tests/test_metrics.py tests/test_optimizers.py

# For `make test-oldest`: a virtual environment, what to install, and the tests that depend on the versions most.
OLDEST := .venv-oldest
OLDEST_EXTRAS := tensorflow,jax,evaluation,coco,heic,video,serving-client,serving-client-grpc
OLDEST_TESTS := tests/imaging tests/inference tests/video tests/pipelines tests/evaluation tests/layers tests/test_fuzz.py

# For `make test-kserve`: a virtual environment, because KServe and TensorFlow need different versions of protobuf, and
# the packages. Triton's client has the protocol buffer of its model configurations.
KSERVE := .venv-kserve
KSERVE_PACKAGES := 'kserve>=0.15' 'tritonclient[grpc]' pytest

.PHONY: demo test test-jax test-oldest test-kserve lint docs web verify soak bench clean

demo: $(VENV)/base
	@$(BIN)/keras-recnet predict examples/photos -o $(OUT) --type mask,cutout,heatmap,overlay
	@$(BIN)/keras-recnet cosal examples/group -o $(OUT) --type sheet
	@echo "Written files:" && find $(OUT) -type f | sort

test: $(VENV)/dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-jax: $(VENV)/dev
	KERAS_BACKEND=jax $(BIN)/python -m pytest --none-skipped $(CORE_TESTS) $(PYTEST_ARGS)

# Old libraries use what the newest versions of their own dependencies have deprecated.
test-oldest: $(OLDEST)/oldest
	$(OLDEST)/bin/python -m pytest -W ignore::DeprecationWarning $(OLDEST_TESTS) $(PYTEST_ARGS)

test-kserve: $(KSERVE)/kserve
	$(KSERVE)/bin/python -m pytest --none-skipped tests/examples/test_kserve.py

lint: $(VENV)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

docs: $(VENV)/dev
	$(BIN)/python docs/build.py

# The version and its checksums are in package-lock.json. Of the builds of LiteRT.js for the CPU, those with and without
# relaxed SIMD are copied, compressed with gzip: the page decompresses them, whatever the server does.
LITERT := export/web/litert
LITERT_BUILDS := litert_wasm_internal litert_wasm_compat_internal

web:
	mkdir -p build/web $(LITERT)
	cp export/web/package.json export/web/package-lock.json build/web
	npm ci --prefix build/web --ignore-scripts --no-audit --no-fund
	sed -e 's|"@litertjs/wasm-utils"|"./wasm_utils.js"|' -e '/^\/\/# sourceMappingURL/d' \
		build/web/node_modules/@litertjs/core/dist/index.js > $(LITERT)/litert.js
	sed '/^\/\/# sourceMappingURL/d' build/web/node_modules/@litertjs/wasm-utils/dist/index.js > $(LITERT)/wasm_utils.js
	for build in $(LITERT_BUILDS); do \
		cp build/web/node_modules/@litertjs/core/wasm/$$build.js $(LITERT)/ && chmod 644 $(LITERT)/$$build.js && \
		gzip -9 -n -c build/web/node_modules/@litertjs/core/wasm/$$build.wasm > $(LITERT)/$$build.wasm.gz || exit 1; \
	done
	@du -ch $(LITERT)/* | tail -1

# One process, since the largest export needs several gigabytes.
verify: $(VENV)/dev
	$(BIN)/python -m pytest -m verify -rP tests/verify

soak: $(VENV)/dev
	$(BIN)/python benchmarks/soak.py

bench: $(VENV)/dev
	$(BIN)/python benchmarks/predict.py $(if $(DATA),$(DATA)/ECSSD-100/images)
	$(BIN)/python benchmarks/cosaliency.py $(if $(DATA),$(DATA)/DUTS-TR/images)
	$(BIN)/python benchmarks/pipeline.py $(if $(DATA),$(DATA)/DUTS-TR/images $(DATA)/DUTS-TR/masks)
	$(BIN)/python benchmarks/evaluate.py

clean:
	rm -rf $(VENV) $(OLDEST) $(KSERVE) build *.egg-info

# Stamp files, touched after a successful install; a change of the package's metadata installs again.
$(VENV)/base: pyproject.toml setup.py | $(VENV)/made
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/dev: pyproject.toml setup.py requirements.txt | $(VENV)/made
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $(VENV)/base $@

$(OLDEST)/oldest: pyproject.toml setup.py .ci/oldest_versions.py
	$(MAKE) VENV=$(OLDEST) $(OLDEST)/made
	$(OLDEST)/bin/python -m pip install --quiet packaging
	$(OLDEST)/bin/python .ci/oldest_versions.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt \
		--editable '.[$(OLDEST_EXTRAS)]' onnxruntime pytest pytest-xdist
	@touch $@

$(KSERVE)/kserve: pyproject.toml setup.py
	$(MAKE) VENV=$(KSERVE) $(KSERVE)/made
	$(KSERVE)/bin/python -m pip install --quiet --editable '.[serving-client]' $(KSERVE_PACKAGES)
	@touch $@

$(VENV)/made:
	@$(or $(PYTHON),false) -c '$(IS_SUITABLE)' || { \
		echo "keras_recnet needs Python 3.11, 3.12 or 3.13. Found: $$($(or $(PYTHON),python3) --version 2>&1)."; \
		echo "Install one of them, or pass its path: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)
	@touch $@
