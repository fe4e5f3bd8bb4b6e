# homefeed's image: every step of the pipeline on Kubeflow, and the workers of Beam on Flink, Spark and Dataflow.
#
#   docker build -t homefeed:latest .
#   docker build -t homefeed:latest-gpu --target gpu .
#   docker run --rm homefeed:latest homefeed --help

ARG PYTHON=3.10.13
ARG BEAM=2.65.0

FROM python:${PYTHON}-slim-bookworm AS build
RUN python -m pip install --no-cache-dir uv==0.13.8
WORKDIR /src
COPY requirements.lock setup.py ./
# The packages first: they change less often than the code. What only tests and checks need stays out.
RUN uv venv --python /usr/local/bin/python /opt/homefeed \
 && uv pip sync --no-cache --require-hashes --compile-bytecode --python /opt/homefeed/bin/python requirements.lock \
 && uv pip uninstall --python /opt/homefeed/bin/python \
    pytest pytest-timeout pytest-xdist hypothesis ruff mypy build dockerfile-parse promql-parser playwright axe-playwright-python
COPY components components
COPY pipeline pipeline
COPY schema schema
COPY serving serving
COPY trainer trainer
RUN uv pip install --no-cache --no-deps --no-build-isolation --python /opt/homefeed/bin/python .

FROM apache/beam_python3.10_sdk:${BEAM} AS beam

FROM python:${PYTHON}-slim-bookworm AS cpu
RUN useradd --uid 1000 --create-home homefeed
COPY --from=build /opt/homefeed /opt/homefeed
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --chmod=755 pipeline/kubeflow/entrypoint.sh /opt/homefeed/entrypoint.sh
ENV PATH=/opt/homefeed/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    TF_FORCE_GPU_ALLOW_GROWTH=true
USER 1000
WORKDIR /home/homefeed
ENTRYPOINT ["/opt/homefeed/entrypoint.sh"]

FROM cpu AS gpu
USER root
COPY --from=build /usr/local/bin/uv /usr/local/bin/uv
COPY requirements-gpu.lock /tmp/requirements-gpu.lock
RUN uv pip install --no-cache --no-deps --require-hashes --python /opt/homefeed/bin/python -r /tmp/requirements-gpu.lock
USER 1000

FROM cpu
