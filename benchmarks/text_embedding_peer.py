"""The peer's side of `benchmarks.text_embedding`, run by a Python that has sentence-transformers: FOLDER TOKENS TEXTS
OUT. TEXTS is a JSON list; OUT gets the vectors (.npy). Prints {"load": seconds, "encode": seconds}."""

import json
import sys
import time
from pathlib import Path

import numpy as np


def main(folder: str, tokens: str, texts: str, out: str) -> None:
    start = time.monotonic()
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    model.max_seq_length = int(tokens)
    loaded = time.monotonic()
    vectors = model.encode(json.loads(Path(texts).read_text()), batch_size=256, normalize_embeddings=True)
    encoded = time.monotonic()
    np.save(out, vectors)
    print(json.dumps({"load": loaded - start, "encode": encoded - loaded}))


if __name__ == "__main__":
    main(*sys.argv[1:])
