"""Where a runner keeps things, and which version of our code it runs."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from schema import names
from schema.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
_SUFFIXES = (".py", ".html")
_OF_STEPS = ("components", "schema", "trainer")
REPORT = ("pipeline/report",)


@dataclass(frozen=True)
class Places:
    """Where a runner keeps things.

    Attributes:
      pipeline_root: artifacts.
      cache: what has been made of each span, and text embeddings; they outlive runs.
      embeddings: text embeddings.
      schemas: the curated schemas' folder.
      encoder: the text encoder's folder.
      encoder_fingerprint: of that folder's content and the encoder's settings.
      push: versions of the model, where a model server looks.
      code_version: of our code; steps run again when it changes.
      report_version: of the report's, where a step writes it.
    """

    pipeline_root: str
    cache: str
    embeddings: str
    schemas: str
    encoder: str
    encoder_fingerprint: str
    push: str
    code_version: str
    report_version: str = ""


def schemas_folder(config: Config) -> str:
    """The folder of curated schemas. Raises InputError where the configuration's lacks one."""
    folder = Path(config.schemas or ROOT / "schema").resolve()
    for name in (*names.TABLES, "interactions"):
        if not (folder / f"{name}.pbtxt").is_file():
            raise InputError(f"{folder / f'{name}.pbtxt'}: is missing; copy homefeed's schema/*.pbtxt there.")
    return str(folder)


def code_version(folders: Iterable[str] = _OF_STEPS) -> str:
    """Fingerprint of the code that runs inside steps: TFX's cache goes by inputs and parameters alone."""
    digest = hashlib.sha256()
    for file in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.*") if path.suffix in _SUFFIXES):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
