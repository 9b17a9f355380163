# Every target sets up what it needs in .venv; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: test-methods help demo experiments experiments-check table1-gpu experiments/table2_cifar100 experiments/table3_clothing1m experiments/table4_sln_first test test-cluster test-slow bench bench-gpu bench-methods lint types docs check kill-matrix requeue-matrix build clean experiments/demo experiments/methods_digits experiments/methods experiments/digits_tuned experiments/digits_sigma experiments/digits_study experiments/minima_digits experiments/recipe experiments/recipe/half experiments/recipe/search experiments/diagnosis experiments/fashion_mnist experiments/cifar10_cpu

help:  ## show this list
	@grep -hE '^[a-zA-Z0-9_/-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 28

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "slnlab needs Python 3.10 or newer: make PYTHON=python3.12 ..."; exit 1; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## cross entropy against SLN, SLN-MO and SLN-MO-LC on noisy digits: a table and a picture in runs/demo
	$(BIN)/python -m slnlab.train -m experiment=demo runs_dir=runs/demo
	$(BIN)/python -m slnlab.report runs/demo --out runs/demo/report

# One more than there are cores: tests that start processes wait for them.
WORKERS = $(shell $(BIN)/python -c 'import os; print(1 + (os.cpu_count() or 1))')
test: $(STAMP)  ## the suite, without test-methods, test-cluster (SLURM, Ray) and test-slow
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

test-cluster: $(STAMP)  ## the launchers on Ray and on a real SLURM cluster of one node (root; slurmctld, slurmd, munge)
	$(BIN)/python -m pytest -m 'cluster and not slow' --durations=10

test-methods: $(STAMP)  ## every method in two processes and on feature vectors, and a list of a million samples (two minutes)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow tests/methods tests/data

test-slow: $(STAMP)  ## all slow tests: test-methods, a SLURM node that disappears, a time limit within an epoch, two processes killed
	$(BIN)/python -m pytest -m slow

bench: $(STAMP)  ## speed, side by side with what it replaces: benchmarks/README.md, docs/speed.md (an hour)
	$(BIN)/python -m benchmarks.bench

bench-methods: $(STAMP)  ## what a run of each method costs, as a multiple of cross entropy's, for its card (20 minutes, idle)
	$(BIN)/python -m benchmarks.methods --json experiments/methods_digits/costs.json
	$(BIN)/python docs/make_pages.py

bench-gpu: $(STAMP)  ## the same on this machine's GPU, and how far a step is from what it could do: benchmarks/GPU.md
	$(BIN)/python -m benchmarks.bench --device cuda

lint: $(STAMP)  ## ruff: style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy
	$(BIN)/mypy

docs: $(STAMP)  ## the pages of docs/, with the API: docs/_build/index.html
	$(BIN)/python docs/make_pages.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

check: lint docs types test test-methods test-cluster  ## everything that CI runs

experiments/demo: demo  ## the demo's table and picture, as committed
	$(BIN)/python -m slnlab.report runs/demo --out $@

experiments/methods_digits: $(STAMP)  ## every method on digits, two noises; SLN first, then another method (400 runs)
	$(BIN)/python -m slnlab.train -m experiment=methods_digits launcher=local runs_dir=runs/methods_digits
	$(BIN)/python -m slnlab.train -m experiment=sln_first_digits init.weights=raw,momentum launcher=local runs_dir=runs/methods_digits
	$(BIN)/python -m slnlab.report runs/methods_digits --where seed=0,1,2,3,4 --costs $@/costs.json --out $@
	rm $@/curves.png  # 70 configurations: no picture to learn from

MINIMA := $(BIN)/python -m slnlab.train -m experiment=minima_digits launcher=local runs_dir=runs/minima_digits
experiments/minima_digits: $(STAMP)  ## flat minima, the propositions and the weightings of label correction on digits (36 runs)
	$(MINIMA)
	$(MINIMA) method=sln_mo_lc correction.weighting=loss,inverse
	$(BIN)/python -m slnlab.report runs/minima_digits --all --compare ce --out $@
	$(BIN)/python -m slnlab.analyze correction runs/minima_digits --out $@
	$(BIN)/python -m slnlab.analyze propositions runs/minima_digits/digits/sym-0.4/sln --out $@
	$(BIN)/python -m slnlab.analyze flatness $(addprefix runs/minima_digits/digits/sym-0.4/,ce sln sgd_noise_parameters sgd_noise_outputs) --out $@
	$(BIN)/python -m slnlab.analyze sgd_noise runs/minima_digits --out $@
	$(BIN)/python -m slnlab.analyze landscape $$(for method in ce sgd_noise_parameters sgd_noise_outputs sln; do \
	  ls -d runs/minima_digits/digits/sym-0.4/$$method/*/seed0 | head -1; done) --points 17 --samples 500 --weights network --out $@
	rm -r $@/*.svg $@/curves.png $@/landscape-points

# Finished runs are kept without weights (report --archive), so that a sweep trains only the missing ones. KEPT= unpacks none.
KEPT ?= true
unpack = test -z "$(KEPT)" -o -d $(2) -o ! -f $(1)/runs.tar.xz || { mkdir -p $(2) && tar -xf $(1)/runs.tar.xz -C $(2); }

RECIPE := $(BIN)/python -m slnlab.train -m experiment=recipe_digits launcher=local
experiments/recipe: $(STAMP)  ## method=slnlab: chosen on noisy labels, against its rivals on digits, and without its parts (251 runs)
	for noise in sym asym; do \
	  $(BIN)/python -m slnlab.tune data=digits data.noisy_val=260 noise=$$noise method=slnlab method.strength=3,6,10 \
	    class_balance.strength=0,1,3 --trial-seeds 0,1 --last 10 seed=5,6,7,8,9 trainer.evaluate_every=60 runs_dir=runs/recipe_tuned && \
	  $(BIN)/python -m slnlab.tune experiment=fashion_mnist data.noisy_val=400 noise=$$noise noise.seed=0 seed=0 method=slnlab \
	    method.strength=6,10 class_balance.strength=1,3 --last 10 trainer.evaluate_every=80 runs_dir=runs/recipe_tuned || exit 1; done
	for study in runs/recipe_tuned/studies/*; do \
	  cp $$study/study.md $@/$$(basename $$study).md && cp $$study/trials.csv $@/$$(basename $$study).csv || exit 1; done
	@$(call unpack,$@,runs/recipe)
	@$(call unpack,$@/parts,runs/recipe_parts)
	$(RECIPE) runs_dir=runs/recipe
	for part in class_balance.strength=0 correction.enabled=false method.strength=0; do \
	  $(RECIPE) noise=sym,asym,dependent method=slnlab $$part runs_dir=runs/recipe_parts || exit 1; done
	$(BIN)/python -m slnlab.report runs/recipe --compare slnlab --out $@ --archive $@/runs.tar.xz
	$(BIN)/python -m slnlab.report runs/recipe_parts --out $@/parts --archive $@/parts/runs.tar.xz
	rm $@/curves.png $@/parts/curves.png

# slnlab in half the epochs costs a fifth of a run of SOP+.
HALF_FASHION := $(BIN)/python -m slnlab.train -m experiment=fashion_mnist launcher=local method=slnlab trainer.max_epochs=40 \
  runs_dir=runs/recipe_half_fashion
experiments/recipe/half: $(STAMP)  ## method=slnlab in half the epochs beside SOP+ and DivideMix (39 runs, and those of recipe, fashion_mnist)
	@$(call unpack,experiments/recipe,runs/recipe)
	@$(call unpack,experiments/fashion_mnist,runs/fashion_mnist)
	@$(call unpack,$@,runs/recipe_half)
	@$(call unpack,$@/fashion_mnist,runs/recipe_half_fashion)
	$(RECIPE) method=slnlab trainer.max_epochs=30 runs_dir=runs/recipe_half
	for seed in 0 1 2; do for noise in noise=sym noise=asym "$(FIVE)"; do \
	  $(HALF_FASHION) seed=$$seed noise.seed=$$seed $$noise || exit 1; done; done
	$(HALF_FASHION) noise=dependent noise.seed=0
	$(BIN)/python -m slnlab.report runs/recipe runs/recipe_half --where method=slnlab,sop_plus,dividemix \
	  --compare sop_plus --out $@
	$(BIN)/python -m slnlab.report runs/fashion_mnist runs/recipe_half_fashion --where method=slnlab,sop_plus,dividemix \
	  --compare sop_plus --out $@/fashion_mnist
	$(BIN)/python -m slnlab.report runs/recipe_half --archive $@/runs.tar.xz > /dev/null
	$(BIN)/python -m slnlab.report runs/recipe_half_fashion --archive $@/fashion_mnist/runs.tar.xz > /dev/null
	rm $@/curves.png $@/fashion_mnist/curves.png

SEARCH := $(BIN)/python experiments/recipe_search.py runs_dir=runs/recipe_search
experiments/recipe/search: $(STAMP)  ## additions to method=slnlab and other cores for it, on noisy labels: digits, Fashion-MNIST (hours)
	$(SEARCH) experiment=recipe_digits data.noisy_val=260 trainer.evaluate_every=2 seed=0,1,2
	$(SEARCH) experiment=fashion_mnist data.noisy_val=400 seed=0,1

DIAGNOSIS := $(BIN)/python -m slnlab.train -m launcher=local method=ce,sln,sln_mo_lc,elr,slnlab
DIAGNOSED := $(DIAGNOSIS) experiment=fashion_mnist noise.rate=0.4,0.2 runs_dir=runs/diagnosis
LOW := $(DIAGNOSIS) experiment=recipe_digits seed=5,6 runs_dir=runs/diagnosis_digits
# CIFAR=DIR HUMAN=FILE add CIFAR-10 with human labels.
experiments/diagnosis: $(STAMP)  ## scores that find wrong labels beside cleanlab, and what corrections bring (550 runs, 12 hours on a core)
	@for runs in runs/minima_digits runs/recipe; do find $$runs -name samples.npz 2> /dev/null | grep -q . || \
	  { echo "first, without $$runs: make experiments/minima_digits experiments/recipe KEPT="; exit 1; }; done
	@test -z "$(CIFAR)" -o -n "$(HUMAN)" || { echo "CIFAR needs HUMAN=FILE: see $@/README.md"; exit 1; }
	for seed in 0 1 2; do \
	  $(DIAGNOSED) seed=$$seed noise.seed=$$seed noise=sym,asym && \
	  $(DIAGNOSED) seed=$$seed noise.seed=$$seed $(FIVE) && \
	  $(DIAGNOSED) seed=$$seed noise.seed=0 noise=dependent || exit 1; done
	test -z "$(CIFAR)" || $(DIAGNOSIS) experiment=cifar10_cpu data.train_size=10000 noise=human noise.annotation=worse \
	  noise.path=$(HUMAN) data.source.root=$(CIFAR) data.source.verify=false runs_dir=runs/diagnosis
	$(LOW) noise=none
	$(LOW) noise=sym noise.rate=0.1,0.2
	$(LOW) noise=asym,dependent noise.rate=0.2
	$(BIN)/python experiments/correcting.py runs/diagnosis --folds --policies
	$(BIN)/python experiments/diagnosis.py runs/diagnosis runs/diagnosis_digits runs/minima_digits runs/recipe --out $@

TUNE := $(BIN)/python -m slnlab.tune data.noisy_val=260 seed=0,1,2,3,4 runs_dir=runs/digits_tuned
experiments/digits_tuned: $(STAMP)  ## what fell behind in methods_digits, its hyper-parameters chosen on noisy labels (106 runs)
	$(TUNE) noise=asym method=backward optimizer.lr=0.001,0.002,0.005,0.01
	$(TUNE) noise=sym method=backward optimizer.lr=0.001,0.002,0.005,0.01
	$(TUNE) noise=asym method=nce_rce loss.alpha=1,10 loss.beta=0.1,1
	$(TUNE) noise=asym method=co_teaching method.forget_rate=0.2,0.4,estimated
	$(TUNE) noise=asym method=jocor method.co_lambda=0.1,0.5,0.65,0.9
	$(TUNE) noise=sym method=jocor method.co_lambda=0.1,0.5,0.65,0.9
	$(TUNE) noise=asym method=truncated_gce method.first_pruning=5,10,20,40
	$(TUNE) noise=asym method=pes_semi method.early_epochs=4,8,16
	$(TUNE) noise=asym method=ce optimizer.lr=0.005,0.01,0.02,0.05
	$(TUNE) noise=sym method=ce optimizer.lr=0.005,0.01,0.02,0.05
	for study in runs/digits_tuned/studies/*; do \
	  cp $$study/study.md $@/$$(basename $$study).md && cp $$study/trials.csv $@/$$(basename $$study).csv || exit 1; done
	$(BIN)/python -m slnlab.report runs/digits_tuned --out $@
	rm $@/curves.png $@/table.csv  # trials and final runs together: no picture to learn from

# Stages: SEEDS=0,1 and then more, which adds runs. COMPARE has overrides of every run, SWEEPS the sweeps.
SEEDS ?= 0,1,2,3,4
SWEEPS ?= methods methods_memorising
COMPARE ?=
experiments/methods: $(STAMP)  ## every method but ni_erm after three trials each on noisy labels: digits, then Fashion-MNIST (hours, days)
	failed=0; for sweep in $(SWEEPS); do \
	  $(call unpack,$@/$$sweep,runs/$$sweep); \
	  $(BIN)/python experiments/comparison.py $$sweep --runs runs/$$sweep seed=$(SEEDS) $(COMPARE) || failed=1; \
	  mkdir -p $@/$$sweep && cp runs/$$sweep/chosen.csv $@/$$sweep && \
	  $(BIN)/python -m slnlab.report runs/$$sweep --where data.test=true \
	    --where seed=$(SEEDS) --compare ce --out $@/$$sweep && \
	  $(BIN)/python -m slnlab.report runs/$$sweep --archive $@/$$sweep/runs.tar.xz > /dev/null && \
	  $(BIN)/python -m slnlab.analyze rank runs/$$sweep --where data.test=true --where seed=$(SEEDS) --out $@/$$sweep && \
	  $(BIN)/python -m slnlab.analyze pareto runs/$$sweep --where data.test=true --where seed=$(SEEDS) --out $@/$$sweep \
	    --costs experiments/methods_digits/costs.json && \
	  rm $@/$$sweep/*.svg $@/$$sweep/curves.png || exit 1; done; exit $$failed  # a hundred configurations: no curves to learn from

experiments/digits_sigma: $(STAMP)  ## the sweep of sigma over four kinds of noise on digits (112 runs)
	$(BIN)/python -m slnlab.train -m experiment=digits_sigma runs_dir=runs/digits_sigma
	$(BIN)/python -m slnlab.report runs/digits_sigma --out $@
	$(BIN)/python -m slnlab.analyze sigma runs/digits_sigma --out $@
	rm $@/curves.png  # 24 configurations: no picture to learn from
	$(BIN)/python -m slnlab.train -m experiment=digits_tune runs_dir=runs/digits_tune
	$(BIN)/python -m slnlab.report runs/digits_tune --out $@/tune
	rm $@/tune/curves.png

experiments/digits_study: $(STAMP)  ## sigma chosen on held-out noisy labels, then the final runs (11 runs)
	$(BIN)/python -m slnlab.tune sln.sigma=0.1,0.2,0.5,1 noise=sym seed=0,1,2 data.noisy_val=260 --trial-seeds 0,1 \
	  runs_dir=runs/digits_study
	cp runs/digits_study/studies/*/study.md runs/digits_study/studies/*/trials.csv $@

FASHION := $(BIN)/python -m slnlab.tune experiment=fashion_mnist data.noisy_val=400 seed=0 noise.seed=0 runs_dir=runs/fashion_tuned
FASHION_SWEEP := $(BIN)/python -m slnlab.train -m experiment=fashion_mnist launcher=local runs_dir=runs/fashion_mnist
FIVE := data=fashion_mnist_five noise=open_set
FASHION_AUGMENTED := $(BIN)/python -m slnlab.train -m experiment=fashion_mnist launcher=local data.padding=2 data.flip=true \
  runs_dir=runs/fashion_augmented
# Table 4. In a folder of its own, since init.from trains more runs of SLN, for the second of two networks.
FASHION_FIRST := $(BIN)/python -m slnlab.train -m experiment=fashion_mnist launcher=local noise=sym,asym \
  'noise.seed=$${seed}' method=co_teaching,sigua runs_dir=runs/fashion_sln_first
RIVALS := method=elr,gce,phuber_ce,label_smoothing,forward,co_teaching,sigua,dividemix,sop_plus
experiments/fashion_mnist: $(STAMP)  ## Fashion-MNIST with a network that memorises: eight studies, then the sweep (hours)
	for noise in noise=sym noise=asym noise=dependent "$(FIVE)"; do \
	  $(FASHION) $$noise method=ce optimizer.lr=0.005,0.01,0.02,0.05 || exit 1; done
	for noise in noise=sym "$(FIVE)"; do $(FASHION) $$noise method=sln sln.sigma=0.2,0.5,1,2 || exit 1; done
	for noise in noise=asym noise=dependent; do \
	  $(FASHION) $$noise method=sln sln.sigma=0.05,0.1,0.2,0.5,1,2 || exit 1; done
	for study in runs/fashion_tuned/studies/*; do \
	  cp $$study/study.md $@/$$(basename $$study).md && cp $$study/trials.csv $@/$$(basename $$study).csv || exit 1; done
	@$(call unpack,$@,runs/fashion_mnist)
	@$(call unpack,$@/augmented,runs/fashion_augmented)
	@$(call unpack,$@/sln_first,runs/fashion_sln_first)
	$(FASHION_SWEEP)
	$(FASHION_SWEEP) $(FIVE)
	$(FASHION_SWEEP) noise=dependent noise.seed=0
	$(FASHION_SWEEP) $(RIVALS)
	$(FASHION_SWEEP) noise=dependent noise.seed=0 $(RIVALS)
	$(FASHION_FIRST)
	$(FASHION_FIRST) init.from=sln
	$(FASHION_AUGMENTED)
	$(BIN)/python -m slnlab.report runs/fashion_mnist --compare ce --out $@ --archive $@/runs.tar.xz
	$(BIN)/python -m slnlab.report runs/fashion_augmented --compare ce --out $@/augmented --archive $@/augmented/runs.tar.xz
	$(BIN)/python -m slnlab.report runs/fashion_sln_first --archive $@/sln_first/runs.tar.xz > /dev/null
	$(BIN)/python -m slnlab.report runs/fashion_sln_first --where method=co_teaching,sigua --out $@/sln_first
	$(BIN)/python -m slnlab.report runs/fashion_mnist --where noise=sym --out runs/fashion_mnist && \
	  cp runs/fashion_mnist/curves.png $@/sym.png  # for the README
	@find runs/fashion_mnist -name result.json ! -execdir test -e samples.npz \; -print | grep -q . && \
	  { echo "not drawn without weights and samples: density, dissection, tsne; without runs/fashion_mnist KEPT= trains all runs"; exit; }; \
	for kind in density dissection; do \
	  $(BIN)/python -m slnlab.analyze $$kind runs/fashion_mnist --where method=ce,sln,sln_mo_lc,slnlab \
	    --where noise=sym,asym,dependent,open_set --out $@ || exit 1; done; \
	$(BIN)/python -m slnlab.analyze tsne $$(for method in ce sln_mo_lc slnlab; do \
	  ls -d runs/fashion_mnist/fashion_mnist/sym-0.4/$$method/*/seed0 | head -1; done) --samples 1500 --out $@ && \
	rm $@/*.svg

CIFAR_CPU := $(BIN)/python -m slnlab.train -m experiment=cifar10_cpu launcher=local data.source.root=$(CIFAR) \
  data.source.verify=false
# A file does not state its noise rate, which co-teaching needs.
DROPPING := method=co_teaching method.forget_rate=0.4
experiments/cifar10_cpu: $(STAMP)  ## CIFAR-10 on CPU cores, published labels: CIFAR=DIR LABELS=DIR HUMAN=FILE (hours)
	@test -n "$(CIFAR)" -a -n "$(LABELS)" -a -n "$(HUMAN)" || { echo "CIFAR, LABELS, HUMAN: see $@/README.md"; exit 1; }
	@$(call unpack,$@,runs/cifar10_cpu)
	@$(call unpack,$@/human,runs/cifar10_human)
	for chosen in "" "$(DROPPING)"; do \
	  for noise in sym asym dependent; do \
	    $(CIFAR_CPU) noise=csv noise.like=$$noise noise.path=$(LABELS)/cifar10_$${noise}0.4.csv $$chosen \
	      runs_dir=runs/cifar10_cpu || exit 1; done; \
	  $(CIFAR_CPU) noise=human noise.annotation=worse noise.path=$(HUMAN) $$chosen runs_dir=runs/cifar10_human || exit 1; done
	$(BIN)/python -m slnlab.report runs/cifar10_cpu --all --compare ce --out $@ --archive $@/runs.tar.xz
	$(BIN)/python -m slnlab.report runs/cifar10_human --compare ce --out $@/human --archive $@/human/runs.tar.xz

experiments: $(STAMP)  ## does the paper hold? The verdicts and the paper's tables, from committed results: experiments/README.md
	$(BIN)/python experiments/verdicts.py

experiments-check: $(STAMP)  ## every experiment's pipeline at toy size, and committed pages against their results
	$(BIN)/python -m pytest tests/experiments -m 'not slow' -n auto --dist loadgroup --durations=5

MINUTES ?= 14
PER_GPU ?= 4
RUNS ?= runs/paper_cifar10$(if $(LABELS),_labels)
ARGS ?= trainer.compile=true
TABLE1 = $(BIN)/python -m slnlab.train -m experiment=table1_cifar10 launcher=local \
  hydra.launcher.runs_per_device=$(PER_GPU) runs_dir=$(RUNS) $(ARGS)
# With LABELS, three noises come from the authors' files, which say no rate.
TABLE1_NOISES = $(foreach noise,sym asym dependent,$(if $(LABELS),\
  'noise=csv noise.like=$(noise) noise.path=$(LABELS)/cifar10_$(noise)0.4.csv',noise=$(noise))) noise=open_set
# The first methods are the most telling. A signal stops the runs at the limit, and 60 s later a kill.
table1-gpu: $(STAMP)  ## as many runs of the paper's Table 1 as MINUTES=14 allow, on a GPU; resumes: experiments/table1_cifar10
	end=$$(($$(date +%s) + 60 * $(MINUTES))); failed=0; \
	for methods in method=ce,sln_mo_lc method=sln,truncated_gce,phuber_ce,label_smoothing \
	  'method=co_teaching method.forget_rate=0.4'; do for noise in $(TABLE1_NOISES); do \
	  left=$$((end - $$(date +%s))); test $$left -gt 0 || break 2; \
	  timeout --foreground --signal=USR2 --kill-after=60 $$left $(TABLE1) $$noise $$methods; \
	  case $$? in 0) ;; 124|137) break 2 ;; *) failed=1 ;; esac; \
	done; done; \
	find $(RUNS) -name result.json | grep -q . || { test $$failed = 1 || echo "no run has finished yet; the same command goes on"; exit $$failed; }; \
	$(BIN)/python -m slnlab.report $(RUNS) --where seed=0,1,2,3,4 \
	  --where method=ce,sln_mo_lc,sln,truncated_gce,phuber_ce,label_smoothing,co_teaching --out $(RUNS)/report && \
	cp $(RUNS)/report/results.csv experiments/table1_cifar10 && \
	$(BIN)/python experiments/verdicts.py && exit $$failed

experiments/table2_cifar100: $(STAMP)  ## the paper's Table 2 (GPU, days)
	$(BIN)/python -m slnlab.train -m experiment=table2_cifar100 launcher=local runs_dir=runs/paper_cifar100
	$(BIN)/python -m slnlab.report runs/paper_cifar100 --out runs/paper_cifar100/report
	cp runs/paper_cifar100/report/results.csv $@
	$(BIN)/python experiments/verdicts.py

CLOTHING1M := $(BIN)/python -m slnlab.train -m experiment=table3_clothing1m launcher=local data.source.root=$(CLOTHING)
experiments/table3_clothing1m: $(STAMP)  ## the paper's Table 3: CLOTHING=DIR (GPU, days)
	@test -n "$(CLOTHING)" || { echo "CLOTHING: see $@/README.md"; exit 1; }
	$(CLOTHING1M) runs_dir=runs/paper_clothing1m/balanced
	$(CLOTHING1M) runs_dir=runs/paper_clothing1m/standard data.sampling=standard \
	  method=ce,sln_mo_lc,sln,forward,backward,co_teaching
	for part in balanced standard; do \
	  $(BIN)/python -m slnlab.report runs/paper_clothing1m/$$part --out runs/paper_clothing1m/$$part/report && \
	  mkdir -p $@/$$part && cp runs/paper_clothing1m/$$part/report/results.csv $@/$$part || exit 1; done
	$(BIN)/python experiments/verdicts.py

experiments/table4_sln_first: $(STAMP)  ## the paper's Table 4 (GPU, days)
	$(BIN)/python -m slnlab.train -m experiment=table4_sln_first launcher=local runs_dir=runs/paper_cifar10
	$(BIN)/python -m slnlab.report runs/paper_cifar10 --where seed=0,1,2,3,4 --where method=co_teaching,sigua,dividemix \
	  --out runs/paper_cifar10/report
	cp runs/paper_cifar10/report/results.csv $@
	$(BIN)/python experiments/verdicts.py

kill-matrix: $(STAMP)  ## end runs at awkward moments, start them again, compare: experiments/kill_matrix
	PYTHONPATH=tests $(BIN)/python experiments/kill_matrix.py --out experiments/kill_matrix

requeue-matrix: $(STAMP)  ## hit the runs of sweeps on every launcher, a real SLURM among them: experiments/requeue_matrix
	PYTHONPATH=tests $(BIN)/python experiments/requeue_matrix.py --out experiments/requeue_matrix

mutations: $(STAMP)  ## defects that the suite must notice, each in a copy of the source: experiments/mutations
	$(BIN)/python experiments/mutations.py --out experiments/mutations

build: $(STAMP)  ## wheel and sdist in dist/
	$(BIN)/python -m build --outdir dist

clean:  ## remove the environment and what was built; runs stay
	rm -rf $(VENV) dist docs/_build .pytest_cache .mypy_cache .ruff_cache
