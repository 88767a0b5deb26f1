# make demo   sets up an environment, then trains, converts and verifies the digits example
# make fuzz   MINUTES=60: random models through all engines, from where the last run ended (tests/fuzz/README.md)
# make test   sets up an environment with the development tools, then checks and tests everything
#
# Needs python3 (3.11 or newer) with venv, and g++; make test tclsh, too. Other interpreters and folders: make PYTHON=python3.12 VENV=env

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# On a Linux PC the CPU build of TensorFlow: half the download. Elsewhere there is only one build.
# With a GPU: make TENSORFLOW=tensorflow demo
ifeq ($(shell uname -sm),Linux x86_64)
TENSORFLOW ?= tensorflow-cpu
else
TENSORFLOW ?= tensorflow
endif

# One test process per core, up to four: each holds a Keras back end of its own, about 1.5 GB.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test fuzz tools test-tools constraints clean
.NOTPARALLEL:

demo: tools $(VENV)/demo.stamp
	$(BIN)/python examples/digits.py

test: export HGQ_REQUIRE_TOOLS = 1
test: tools test-tools $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PARALLEL) --durations 15
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(PARALLEL) tests/quantizers

MINUTES ?= 10

# Keras' back end of NumPy predicts op by op, at a tenth of the cost of TensorFlow's.
fuzz: tools $(VENV)/test.stamp
	KERAS_BACKEND=numpy TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -W ignore -m tests.fuzz --minutes $(MINUTES)

# $(call need,PACKAGE,COMMAND): installs PACKAGE, or says so, unless COMMAND succeeds.
define need
	@if ! { $(2); } >/dev/null 2>&1; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $(1)" && apt-get -qq update && \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(1) >/dev/null; \
	  else echo "$(1) is missing. Install it: sudo apt-get install $(1)" >&2; exit 1; fi; fi
endef

tools:
	$(call need,g++,echo 'int main() { return 0; }' | g++ -x c++ -o /dev/null -)

# The emitted Tcl is run, by any Tcl.
test-tools:
	$(call need,tcl,echo exit | tclsh)

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(call need,python3-venv,$(PYTHON) -m ensurepip --version)
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: EXTRAS = examples
$(VENV)/test.stamp: EXTRAS = examples,jax,dev
$(VENV)/%.stamp: $(BIN)/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(TENSORFLOW),$(EXTRAS)]'
	$(call need,$$($(PYTHON) -c 'import sys; print("libpython%d.%d" % sys.version_info[:2])'),$(BIN)/find_libpython | grep .)
	@touch $@

# After a change of dependencies: what a fresh environment gets, pinned. Run in an environment made for it.
constraints: $(VENV)/test.stamp
	$(BIN)/pip freeze --exclude-editable | grep '==' | sed 's/^tensorflow_cpu==\(.*\)/&\ntensorflow==\1/' | LC_ALL=C sort -f > constraints.txt

clean:
	rm -rf $(VENV) runs build dist
