# A thin layer over `python -m minitransformer`, which does the same without make.
# QUICK=1, STEP=1, MINE=1 and TEXT=file reach it through the environment.
PYTHON ?= python3
RUN := $(PYTHON) -m minitransformer

.DEFAULT_GOAL := help
.PHONY: help lessons chat lab real progress verify test parity record book translate book-test mutants bench tune generate predict evaluate pretrain data tokenizer lint

help:  ## print this list
	@echo "make lesson-3    run lesson 3 (any lesson's number)"
	@sed -n 's/^\([a-z-]*\):  ## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf 'make %-12s%s\n' "$$name" "$$text"; done
	@echo "The exercises of lesson 3: start-3, check-3, watch-3, hint-3, solution-3, reset-3; check-3.2 is exercise 3.2 alone."
	@echo "make notebook-3  write lesson 3 as a Jupyter notebook, notebooks/lesson_03.ipynb"
	@echo "With a lesson: MINE=1 your own code in it, QUICK=1 a smoke run, STEP=1 wait before each step, TEXT=file your own text."
	@echo "PYTHON=python3.12 names another Python; ARGS='-k attention' goes to pytest."

lesson-%:
	@$(RUN) lesson $*

notebook-%:
	@$(RUN) notebook $*

lessons:  ## list the lessons; ARGS="003 §4.2" lists the steps that treat a section of a document
	@$(RUN) lessons $(ARGS)

chat:  ## talk with the tuned GPT; TASK=dialogue names the task
	@$(RUN) chat $(if $(TASK),--task $(TASK)) $(ARGS)

lab:  ## measure and judge the documents' claims; ARGS=length names one, ARGS=budgets every method
	@$(RUN) lab $(ARGS)

real:  ## measure lesson 15's methods on a published BERT and real text
	@$(RUN) real

start-%:
	@$(RUN) start $*

check-%:
	@$(RUN) check $*

watch-%:
	@$(RUN) watch $*

hint-%:
	@$(RUN) hint $*

reset-%:
	@$(RUN) reset $*

solution-%:
	@$(RUN) solution $* $(ARGS)

progress:  ## show which exercises pass
	@$(RUN) progress

verify:  ## prove the exercises
	@$(RUN) verify

test:  ## run the tests
	@$(RUN) test $(ARGS)

parity:  ## run the slow tests and those against other libraries
	@$(RUN) parity $(ARGS)

record:  ## run the lessons whose recorded outcomes are stale, and record them; ARGS=9 names one
	@$(RUN) record $(ARGS)

book:  ## build the read-along book, build/book/en/index.html
	@$(RUN) book

translate:  ## bring a catalogue of translations up to date: ARGS='zh 9'
	@$(RUN) translate $(ARGS)

book-test:  ## run the tests of the read-along book, in a browser
	@$(RUN) book-test $(ARGS)

mutants:  ## see whether the tests notice changes in the code
	@$(RUN) mutants $(ARGS)

bench:  ## measure speed and memory beside other libraries
	@$(RUN) bench $(ARGS)

tune:  ## tune on your own rows: DATA=rows.jsonl TASK=completion OUT=folder, ARGS='--method lora --search'
	@$(RUN) tune $(if $(DATA),--data $(DATA)) $(if $(TASK),--task $(TASK)) $(if $(OUT),--out $(OUT)) $(ARGS)

generate:  ## let what you tuned write: OUT=folder ARGS='"a prompt"'
	@$(RUN) generate $(if $(OUT),--from $(OUT)) $(ARGS)

predict:  ## let what you tuned sort texts: OUT=folder ARGS='"a text"'
	@$(RUN) predict $(if $(OUT),--from $(OUT)) $(ARGS)

evaluate:  ## score what you tuned: OUT=folder
	@$(RUN) evaluate $(if $(OUT),--from $(OUT)) $(ARGS)

pretrain:  ## train the base models again
	@$(RUN) pretrain $(ARGS)

data:  ## write the tiny world's data again
	@$(RUN) data

tokenizer:  ## train the tokenizer again
	@$(RUN) tokenizer

lint:  ## check the code with ruff, and the types of the library with mypy
	@$(RUN) lint
