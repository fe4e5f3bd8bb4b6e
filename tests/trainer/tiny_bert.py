"""A BERT folder with small random layers."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SIZE, _INNER, _LENGTH = 8, 16, 32


def write_bert(folder: Path, words: Sequence[str], layers: int = 1) -> str:
    """Writes config.json, vocab.txt and model.safetensors; returns the folder."""
    vocabulary = (*SPECIAL, *words)
    sizes = {
        "embeddings.word_embeddings.weight": (len(vocabulary), _SIZE),
        "embeddings.position_embeddings.weight": (_LENGTH, _SIZE),
        "embeddings.token_type_embeddings.weight": (2, _SIZE),
        "embeddings.LayerNorm.weight": (_SIZE,),
        "embeddings.LayerNorm.bias": (_SIZE,),
    }
    dense = {"attention.output": (_SIZE, _SIZE), "intermediate": (_INNER, _SIZE), "output": (_SIZE, _INNER)}
    for layer in (f"encoder.layer.{n}." for n in range(layers)):
        for part in ("query", "key", "value"):
            name = f"{layer}attention.self.{part}"
            sizes |= {f"{name}.weight": (_SIZE, _SIZE), f"{name}.bias": (_SIZE,)}
        for part, shape in dense.items():
            sizes |= {f"{layer}{part}.dense.weight": shape, f"{layer}{part}.dense.bias": shape[:1]}
        for part in ("attention.output", "output"):
            sizes |= {f"{layer}{part}.LayerNorm.weight": (_SIZE,), f"{layer}{part}.LayerNorm.bias": (_SIZE,)}
    random = np.random.default_rng(1)
    weights = {name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(folder / "model.safetensors"))
    config = {
        "model_type": "bert",
        "vocab_size": len(vocabulary),
        "hidden_size": _SIZE,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": _INNER,
        "max_position_embeddings": _LENGTH,
        "type_vocab_size": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    return str(folder)
