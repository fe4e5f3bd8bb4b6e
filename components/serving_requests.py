"""What ServingValidator asks: requests made from real examples, and those of them that warm a server up."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tfx.types.standard_artifacts import Examples

from components.examples import read_split
from schema import names
from schema.saved_model import EXPECTED_ANSWERS, EXTRA, WARM_UP

Inputs = dict[str, np.ndarray]


class Person(NamedTuple):
    """A held-out user.

    Attributes:
      known: asks for the user by id alone.
      told: brings the history along.
      history: what it holds.
      seen: all that the user had before.
      target: an item that the user turned to later.
    """

    known: Inputs
    told: Inputs
    history: frozenset[bytes]
    seen: frozenset[bytes]
    target: bytes


def people_from(examples: Examples, count: int) -> list[Person]:
    """The first held-out users."""
    people = []
    for row in islice(read_split(examples, names.EVAL_SPLIT), count):
        user, history = np.array(row[names.USER_ID], object), row.get(names.HISTORY_ITEM_IDS) or [b""]
        known = {names.USER_ID: user}
        told = {**known, names.HISTORY_ITEM_IDS: np.array([history], object)}
        seen = frozenset(row.get(names.SEEN_ITEM_IDS, []))
        people.append(Person(known, told, frozenset(history) - {b""}, seen, row[names.TARGET_ITEM_IDS][0]))
    return people


def catalog_ids(examples: Examples) -> list[bytes]:
    """All items of the catalogue."""
    return [row[names.ITEM_ID][0] for row in read_split(examples, names.CATALOG_SPLIT)]


def expected_answers(model: str) -> Iterator[tuple[str, Inputs, dict[str, np.ndarray]]]:
    """(signature, request, answer) that Trainer had from the model before it was written."""
    for record in tf.data.TFRecordDataset(os.path.join(model, EXTRA, EXPECTED_ANSWERS)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
        sides = (log.request.inputs, log.response.outputs)
        inputs, outputs = ({name: tf.make_ndarray(value) for name, value in side.items()} for side in sides)
        yield log.request.model_spec.signature_name, inputs, outputs


def write_warm_up(people: list[Person], folder: str) -> None:
    """Writes requests of the signatures that pages ask, where AtomicPusher looks for them: TensorFlow Serving replays
    them before a version goes live."""
    query = np.array([b"warm-up"], object)
    asked: list[tuple[str, Mapping[str, Any]]] = [(names.SEARCH, {names.QUERY: query})]
    for person in people[:4]:
        asked += [(names.SERVING_DEFAULT, person.known), (names.RECOMMEND, person.told)]
        asked.append((names.SIMILAR_ITEMS, {names.ITEM_ID: np.array([person.target], object)}))
    with tf.io.TFRecordWriter(os.path.join(folder, WARM_UP)) as writer:
        for signature, inputs in asked:
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = names.MODEL_NAME, signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
