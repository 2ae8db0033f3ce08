# The operations manual of genrebeam. `make help` lists what there is.
# Every target that needs the environment makes it first: a fresh machine needs Python 3.10 to 3.13 and make.

PYTHON  ?= python3
VENV    ?= .venv
OUTPUT  ?= genrebeam-output
ARGS    ?=
# Where `make install` makes the command known.
BIN     ?= $(HOME)/.local/bin
# Through the environment, so that names with blanks and quotes arrive whole.
export LIBRARY OUTPUT
# The development data, where it lies beside the project.
DATA    ?= ../shared/data
READY   := $(VENV)/.ready
RUN     := $(VENV)/bin/python
GENREBEAM := $(VENV)/bin/genrebeam

.PHONY: help install tag demo man test lint format bench bench-apply bench-app torture fuzz torture-engine torture-tag model clean flink-smoke flink-test prism-smoke image-smoke simulate

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(READY): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) else "genrebeam needs Python 3.10 to 3.13, this is %d.%d; set PYTHON=python3.12 or so" % v[:2])'
	@echo 'Setting up $(VENV) (once; a minute or two, 3.5 GB) ...'
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --upgrade pip
	@# setuptools warns of editable installs whose packages lie at the top, where our user wants them
	@PYTHONWARNINGS=ignore $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[app,train,test]'
	@touch $@

setup: $(READY)  ## Make the environment in .venv (a minute or two)

install: $(READY)  ## Make the command `genrebeam` known: a link in ~/.local/bin [BIN=folder]
	@mkdir -p "$(BIN)"
	@if test -e "$(BIN)/genrebeam" && test "$$(readlink -f "$(BIN)/genrebeam")" != "$$(readlink -f $(GENREBEAM))"; then \
	  echo 'make install: $(BIN)/genrebeam is another program; give BIN=folder' >&2; exit 2; fi
	@ln -sfn "$(abspath $(GENREBEAM))" "$(BIN)/genrebeam"
	@echo '$(BIN)/genrebeam -> $(abspath $(GENREBEAM))'
	@case ":$$PATH:" in *":$(BIN):"*) ;; *) echo '$(BIN) is not on your PATH; add this line to ~/.profile and log in again:'; \
	  echo '  export PATH="$(BIN):$$PATH"' ;; esac

tag: $(READY)  ## Tag a library: make tag LIBRARY=~/Music [OUTPUT=folder] [ARGS="--vote majority"]
	@test -n "$$LIBRARY" || { echo 'make tag: give a library, for example: make tag LIBRARY=~/Music' >&2; exit 2; }
	@$(GENREBEAM) tag "$$LIBRARY" --output "$$OUTPUT" $(ARGS)

demo: $(READY)  ## Tag a small library that a script synthesises
	@test -d .demo/library || $(RUN) tests/synth.py .demo/library
	@$(GENREBEAM) tag .demo/library --output .demo/output --format csv $(ARGS)

test: $(READY)  ## Lint, type-check, and run all tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(RUN) -m pytest -q -n auto --dist loadfile $(ARGS)

MAN     ?= $(HOME)/.local/share/man/man1

man: $(READY)  ## Man pages of all commands, in your own folder of man pages [MAN=folder]
	@$(RUN) deploy/man.py "$(MAN)"

format: $(READY)  ## Put the code in shape
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(READY)  ## Measure parts, the whole, start-up, memory, agreement with stored log-Mels (DATA=folder); JSON in .cache/bench.json
	$(RUN) tests/bench/tagging.py --data $(DATA)

bench-apply: $(READY)  ## Files per second that get their tags written, 5 MB MP3s in memory, two workers
	$(RUN) tests/bench/apply_files_per_s.py

bench-app: $(READY)  ## The app in a browser at 100,000 rows: start, keys, sound, searches, memory; JSON
	$(RUN) tests/bench/app.py

simulate: $(READY)  ## Ten million tracks through everything but the hearing: the driver's seconds and memory
	$(RUN) tests/bench/simulate.py $(ARGS)

torture: $(READY) fuzz  ## kill -9 at 200 random moments while tags are written and taken off again; and fuzz
	$(RUN) tests/torture.py $(ARGS)

# With TagLib as a third reader where PyPI's pytaglib is installed; the folders are passed over where they are absent.
MUTANTS ?= 5000
SEED    ?= 1

fuzz: $(READY)  ## Damaged tag files through fill, merge, overwrite and undo [MUTANTS=5000] [SEED=1]
	$(RUN) tests/fuzz.py --mutants $(MUTANTS) --seed $(SEED) --samples $(DATA)/cases --samples $(DATA)/oddities

torture-engine: $(READY)  ## The same with Beam's local runner: drivers and workers die while tags are written
	$(RUN) tests/torture.py --engine --kills 50 --copies 40 $(ARGS)

torture-tag: $(READY)  ## kill -9 of drivers and workers while a library is tagged
	$(RUN) tests/torture_tag.py $(ARGS)

# The recipe is the defaults of `genrebeam train`: one training makes both bundles. Folds give the cards their figures. What is
# done is not done again, and a run that was killed goes on: two to three hours on one core, half of that with `make -j2 model`.
WORK    ?= .cache/model
FOLDS   := 0 1 2 3 4
RUNS    := final $(addprefix fold,$(FOLDS))
# Voices that no genre fits, a folder of audio files for each, teach the networks what is no music (docs/training.md).
VOICES  ?=
SIXTEEN := blues,classical,country,disco,electronic,folk,hiphop,jazz,latin,metal,newage,pop,reggae,rnb,rock,world
TEN     := blues,classical,country,disco,hiphop,jazz,metal,pop,reggae,rock
# TensorFlow's large blocks are given back to the system after each step otherwise, which costs up to a third of the time.
TRAIN   := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 $(GENREBEAM) train --threads 1
head_of  = $(if $(filter gtzan10,$1),/gtzan10)
fold_of  = $(if $(filter final,$1),--valid-split '',--fold $(subst fold,,$1)/5)
.SECONDARY:

$(WORK)/targets.parquet: | $(READY)
	$(RUN) deploy/recipe.py $(DATA) $(WORK) $(VOICES)

$(WORK)/shards-%/dataset.json: $(WORK)/targets.parquet
	$(GENREBEAM) shards $(WORK)/logmel --stored-log-mels --labels $(WORK)/labels-$*.csv --hop-length 2048 \
	  --split-shares train=1 --genres $(if $(filter genres16,$*),$(SIXTEEN),$(TEN)) --output $(@D)

$(WORK)/genres16-%/config.json: $(WORK)/shards-genres16/dataset.json
	$(TRAIN) $(<D) --targets $(WORK)/targets.parquet --output $(@D) $(call fold_of,$*) \
	  $(if $(filter final,$*),--model-id genrebeam-genres16-v6)

$(WORK)/report-%: $(foreach run,$(RUNS),$(WORK)/genres16-$(run)/config.json) $(WORK)/shards-genres16/dataset.json $(WORK)/shards-gtzan10/dataset.json
	$(GENREBEAM) evaluate $(foreach fold,$(FOLDS),$(WORK)/genres16-fold$(fold)$(call head_of,$*)) $(WORK)/shards-$* --fit \
	  --output $@ --card $(WORK)/genres16-final$(call head_of,$*)

model: $(WORK)/report-genres16 $(WORK)/report-gtzan10  ## Train the shipped models again (needs DATA=folder)
	@echo 'The new bundles are $(WORK)/genres16-final and gtzan10 in it; model/pretrained is unchanged.'

flink-smoke: $(READY)  ## The same graph on an embedded Flink (Java; the job server comes from Maven, or FLINK_JOB_SERVER_JAR=file)
	$(RUN) deploy/smoke.py flink $(if $(FLINK_JOB_SERVER_JAR),--jar $(FLINK_JOB_SERVER_JAR))

flink-test: $(READY)  ## A Flink cluster of two TaskManagers, one killed in the middle (JAR=file, FLINK_HOME=folder)
	$(RUN) deploy/flink_cluster.py $(addprefix --jar ,$(or $(JAR),$(FLINK_JOB_SERVER_JAR))) $(if $(FLINK_HOME),--flink $(FLINK_HOME)) $(ARGS)

prism-smoke: $(READY)  ## The same graph on Beam's Prism engine (built with Go, or PRISM=file)
	$(RUN) deploy/smoke.py prism $(if $(PRISM),--prism $(PRISM))

image-smoke: $(READY)  ## The worker image's steps in a clean folder, and its worker on Prism (Go; 4 GB in .cache/image)
	$(RUN) deploy/smoke.py image $(if $(PRISM),--prism $(PRISM))

clean:  ## Remove the environment, the demo and caches; never your results
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
