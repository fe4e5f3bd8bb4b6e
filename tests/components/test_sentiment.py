import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as PeerRidge

from components.columnar import to_batch
from components.events import ReadEvents
from components.examples import write_examples
from components.interactions import Timeline
from components.sentiment import Ridge, Sentiments, hashes_of, lookup
from components.text_embedding_gen import TEXT_HASH, text_hash
from schema import names

CUT = 1_000


def learnt(batches):
    combine = Ridge()
    parts = [combine.add_input(combine.create_accumulator(), batch) for batch in batches]
    return combine.extract_output(combine.merge_accumulators([None, *parts]))


def rated(count, seed=0):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 4))
    ratings = np.clip(np.round(3 + vectors @ [1.0, -1.0, 0.5, 0.0]), 1, 5)
    ratings[:2] = 1, 5
    return list(zip(vectors.tolist(), ratings.tolist(), strict=True))


@given(st.integers(20, 80), st.integers(1, 5))
def test_the_head_is_ridge_regression_however_it_is_parted(count, parts):
    pairs = rated(count, count)
    head = learnt([pairs[n::parts] for n in range(parts)])
    peer = PeerRidge(alpha=1.0).fit(*map(np.array, zip(*pairs, strict=True)))
    vectors = np.random.default_rng(9).normal(size=(5, 4))
    found = vectors @ head.weights + head.bias
    assert found == pytest.approx((peer.predict(vectors) - 3) / 2, abs=1e-8)


def test_too_few_ratings_or_only_one_say_nothing():
    assert learnt([rated(19)]) is None
    assert learnt([[(vector, 5.0) for vector, _ in rated(50)]]) is None
    assert learnt([]) is None


WORDS = {"good": 5.0, "bad": 1.0}


def log(tmp_path, late):
    """Comments before the cut, a good one 5 stars; `late` ones after it say the opposite."""
    rows = [(b"rating", n, WORDS[word], f"{word} {n}".encode()) for n in range(30) for word in WORDS]
    rows += [(b"rating", CUT + n, 6 - WORDS[word], f"{word} {n}".encode()) for n in range(late) for word in WORDS]
    rows += [(b"comment", 5, None, b"good, unrated"), (b"purchase", 5, 500.0, b"bad 3"), (b"view", 5, None, None)]
    kinds = {
        names.EVENT: pa.binary(),
        names.TIMESTAMP: pa.int64(),
        names.VALUE: pa.float32(),
        names.COMMENT: pa.binary(),
    }
    columns = zip(zip(*rows, strict=True), kinds.items(), strict=True)
    path = str(tmp_path / "log.gz")
    write_examples(path, [to_batch({name: pa.array(list(values), kind) for values, (name, kind) in columns})])
    return path


def embedding(text):
    return [1.0 if text.startswith("good") else -1.0, len(text) / 10]


@pytest.mark.parametrize("late", [0, 30])
def test_comments_say_what_rated_ones_before_the_cut_have_taught(tmp_path, late):
    texts = [*(f"{word} {n}" for n in range(30) for word in WORDS), "good, unrated", "a title"]
    rows = [{TEXT_HASH: [text_hash(text)], names.TEXT_EMBEDDING: embedding(text)} for text in texts]

    def check(tables):
        (table,) = tables
        said = dict(zip(texts, lookup(table, pa.array(map(text_hash, texts), pa.binary())), strict=True))
        assert np.isnan(said.pop("a title"))  # is no comment
        for text, sentiment in said.items():
            assert sentiment == pytest.approx(1 if text.startswith("good") else -1, abs=0.1)

    with TestPipeline() as pipeline:
        timeline = pipeline | "t" >> beam.Create([Timeline(CUT, 2 * CUT, (CUT, 2 * CUT))])
        vectors = pipeline | "v" >> beam.Create(rows)
        read = pipeline | "l" >> beam.Create([[log(tmp_path, late)]]) | ReadEvents({"view": 1.0}, [])
        assert_that(read[ReadEvents.COMMENTS] | Sentiments(timeline, vectors), check)


def test_a_log_without_comments_has_no_sentiments():
    empty = (pa.array([], pa.binary()), np.zeros(0))
    keys = hashes_of(pa.array([None, b"", b"fine"], pa.binary()))
    assert keys.null_count == 2
    assert np.isnan(lookup(empty, keys)).all()
    assert len(lookup(empty, keys[:0])) == 0
