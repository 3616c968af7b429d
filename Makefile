PYTHON ?= python3
EXTRAS ?= audio,tts,test,deepspeed,optimisers
BIN = .venv/bin
# The demo keeps to its own folder, so that the results in git stay what they are.
DEMO ?= demo
STUDY ?= demo
# Modules are compiled when first imported and not on installation; without that, every process
# that imports torch would take twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test clean
.DELETE_ON_ERROR:

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: export SLAM_OUT = $(DEMO)/runs
demo: install
	$(BIN)/python -m slam_core units slam_core/embedded/clips/*.wav
	$(BIN)/python -m sweeps launch $(STUDY) --on local --results $(DEMO)/results
	$(BIN)/python -m analysis fit $(STUDY) --results $(DEMO)/results || test $(STUDY) = smoke
	$(BIN)/python -m analysis compare $(STUDY) --results $(DEMO)/results
	$(BIN)/python -m analysis figures $(STUDY) --results $(DEMO)/results --out $(DEMO)/figures
	test $(STUDY) != demo || $(BIN)/python -m analysis agree demo --results $(DEMO)/results

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 3 --dist worksteal --hypothesis-profile ci  # on two cores: the slow ones wait

clean:
	rm -rf .venv build *.egg-info
