"""The configuration reference is what the configuration is."""

from pathlib import Path

from pipeline.config import Config
from pipeline.reference import reference

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_the_document_is_up_to_date():
    """If not: python -m pipeline.reference > docs/configuration.md"""
    assert DOCUMENT.read_text(encoding="utf-8") == reference()


def test_every_key_is_in_it_with_its_bounds():
    text = reference()
    for section in (name for name in Config.model_fields if name not in ("events", "columns", "schemas")):
        assert f"## `{section}`" in text
    assert "| `eval_share` | `0.1` | number, > 0, < 0.5 |" in text
    assert "## `kubeflow.steps.NAME`" in text and '| `runner` | `"direct"` | `direct`, `flink`' in text
