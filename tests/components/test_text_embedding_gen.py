import apache_beam as beam
import numpy as np
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that

from components.text_embedding_gen import TEXT_HASH, Encode, by_length, embed_texts, item_text, text_hash
from schema import names
from trainer.encoder_files import resolve_encoder
from trainer.text_encoder import load_encoder

ENCODER_FN = "trainer.text_encoder.load_encoder"


def test_the_text_of_an_item_is_its_title_and_description():
    assert item_text({names.TITLE: [b"Mug"], names.DESCRIPTION: [b"Blue."]}) == "Mug. Blue."
    assert item_text({names.TITLE: ["杯".encode()]}) == "杯"
    assert item_text({}) == ""


def test_each_distinct_text_is_embedded_once_and_what_is_cached_not_at_all():
    texts = ["a cup", "a cup", "a hat", "known"]
    cached = {TEXT_HASH: [text_hash("known")], names.TEXT_EMBEDDING: [1.0, 2.0]}
    stale = {TEXT_HASH: [text_hash("gone")], names.TEXT_EMBEDDING: [3.0]}
    encoder = load_encoder(resolve_encoder(""), 16)
    expected = {text_hash(text): vector for text, vector in zip(texts, encoder.encode(texts), strict=True)}

    def check_new(rows):
        assert sorted(row[TEXT_HASH][0] for row in rows) == sorted([text_hash("a cup"), text_hash("a hat")])
        for row in rows:
            assert np.abs(np.array(row[names.TEXT_EMBEDDING]) - expected[row[TEXT_HASH][0]]).max() < 1e-5

    def check_known(rows):
        assert rows == [cached]

    with TestPipeline() as pipeline:
        new, known = embed_texts(
            pipeline | "texts" >> beam.Create(texts),
            pipeline | "cached" >> beam.Create([cached, stale]),
            Encode(ENCODER_FN, resolve_encoder(""), 16, batch_size=2),
        )
        assert_that(new, check_new, label="new")
        assert_that(known, check_known, label="known")


def test_texts_of_like_length_are_encoded_together():
    batches = list(by_length(["d", "a", "c", "b", "e"], [4, 1, 3, 2, 5], batch_size=2))
    assert batches == [["a", "b"], ["c", "d"], ["e"]]


def test_lengths_are_those_of_what_is_read():
    encoder = load_encoder(resolve_encoder(""), 16)
    assert encoder.lengths(["a cup", "", "word " * 100]) == [4, 2, 16]
