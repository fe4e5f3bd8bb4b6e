"""One small shop, trained, gated and pushed once for all tests that need a model."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from pipeline.config import Config, load_config
from schema import names
from tests.bucket import bucket_server

# Machines that share their cores are slow now and then; that says nothing about a property.
hypothesis.settings.register_profile("homefeed", deadline=None)
hypothesis.settings.load_profile("homefeed")

SETTINGS = (
    "model.epochs=3",
    "model.dimensions=16",
    "model.batch_size=256",
    "model.refit=false",
    "split.windows=2",
    "split.snapshots=8",
    "split.history_length=10",
    "retrieval.exact_below=100",
    "retrieval.block=16",
    "serving.requests=4",
    "serving.max_latency_ms=5000",
    "evaluation.thresholds.recall.at_least=0",
    "evaluation.thresholds.ndcg.at_least=0",
)


ONLINE_RETAIL = Path(os.environ.get("HOMEFEED_ONLINE_RETAIL", "online-retail.zip"))  # the publisher's archive
needs_online_retail = pytest.mark.skipif(
    not ONLINE_RETAIL.is_file(), reason="HOMEFEED_ONLINE_RETAIL does not name the publisher's archive"
)


@dataclass(frozen=True)
class Shop:
    """Folders of a generated shop and of the workspace of its run."""

    behaviors: Path
    catalog: Path
    workspace: Path

    @property
    def folders(self) -> dict[str, str]:
        return {names.BEHAVIORS: str(self.behaviors), names.CATALOG: str(self.catalog)}

    @property
    def base(self) -> Path:
        return self.workspace / "serving" / names.MODEL_NAME

    @property
    def version(self) -> Path:
        return max((p for p in self.base.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))

    def artifact(self, node: str, key: str) -> Path:
        """Folder of the newest artifact of a node's output."""
        return max((self.workspace / "artifacts" / node / key).iterdir(), key=lambda p: int(p.name))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Objects of the bucket `tests.bucket.BUCKET` of Google Cloud Storage, as name -> content."""
    from apache_beam.io.gcp import gcsio

    objects: dict[str, bytes] = {}
    with bucket_server(objects) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        # Whoever has no credentials is asked four times for them.
        monkeypatch.setattr(gcsio.auth, "get_service_credentials", lambda options: None)
        yield objects


@pytest.fixture(scope="session")
def config() -> Config:
    return load_config(None, SETTINGS)


@pytest.fixture(scope="session")
def shop_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipeline.data.sample import write_sample

    folder = tmp_path_factory.mktemp("shop")
    write_sample(str(folder), events=6_000, users=200, products=300, days=14, seed=3)
    return folder


@pytest.fixture(scope="session")
def shop(shop_data: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    from pipeline.local_runner import run_locally

    workspace = tmp_path_factory.mktemp("workspace")
    result = Shop(shop_data / names.BEHAVIORS, shop_data / names.CATALOG, workspace)
    outcome = run_locally(config, result.folders, str(workspace))
    assert outcome.pushed is not None, outcome.refusals
    return result
