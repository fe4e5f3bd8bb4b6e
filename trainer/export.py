"""Writes a servable as a SavedModel with its signatures, their defaults, and warm-up requests."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from schema import names
from schema.signatures import INPUTS
from trainer.servable import Servable

_WARM_UP = "tf_serving_warmup_requests"  # in assets.extra: TensorFlow Serving replays it before a version goes live


def signatures(servable: Servable) -> dict[str, Any]:
    """Signature name -> tf.function; an input is called as the method's parameter is."""
    recommend = _signature(servable.recommend)
    return {
        names.SERVING_DEFAULT: recommend,
        names.RECOMMEND: recommend,
        names.SIMILAR_ITEMS: _signature(servable.similar_items),
        names.SEARCH: _signature(servable.search),
        names.SCORE: _signature(servable.score),
        names.EMBED_QUERY: _signature(servable.embed_query),
        names.EMBED_ITEM: _signature(servable.embed_item),
        names.EVALUATE: _signature(servable.evaluate),
    }


def _signature(method: Callable[..., Any]) -> Any:
    specs = []
    for name in inspect.signature(method).parameters:
        dtype, rank, _ = INPUTS[name]
        specs.append(tf.TensorSpec([None] * rank, dtype, name=name))
    return tf.function(method, input_signature=specs, autograph=False)


def _declare_defaults(folder: str, defaults: Mapping[str, Any]) -> None:
    """Writes what a request may leave out into the SignatureDefs, where TensorFlow Serving looks for it.

    Search is the one signature in which the user may be left out.
    """
    path = os.path.join(folder, "saved_model.pb")
    with tf.io.gfile.GFile(path, "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    for name, definition in saved_model.meta_graphs[0].signature_def.items():
        for key in definition.inputs:
            dtype, _, default = INPUTS.get(key, (None, 0, None))
            default = defaults.get(key, default)
            if name == names.SEARCH and key == names.USER_ID:
                default = [names.PADDING]
            if default is not None:
                definition.defaults[key].CopyFrom(tf.make_tensor_proto(default, dtype))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(saved_model.SerializeToString(deterministic=True))


def warm_up(model_name: str) -> list[prediction_log_pb2.PredictionLog]:
    """One request for each signature that pages ask."""
    requests = {
        names.SERVING_DEFAULT: {names.USER_ID: [b"warm-up"]},
        names.SIMILAR_ITEMS: {names.ITEM_ID: [b"warm-up"]},
        names.SEARCH: {names.QUERY: [b"warm-up"]},
    }
    logs = []
    for signature, inputs in requests.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model_name, signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(np.array(value, object)))
        log = prediction_log_pb2.PredictLog(request=request)
        logs.append(prediction_log_pb2.PredictionLog(predict_log=log))
    return logs


def export(servable: Servable, folder: str, defaults: Mapping[str, Any]) -> None:
    """Writes the SavedModel and its warm-up requests to `folder`; `defaults` of inputs replace those of `INPUTS`."""
    tf.saved_model.save(servable, folder, signatures=signatures(servable))
    _declare_defaults(folder, defaults)
    extra = os.path.join(folder, "assets.extra")
    tf.io.gfile.makedirs(extra)
    with tf.io.TFRecordWriter(os.path.join(extra, _WARM_UP)) as writer:
        for log in warm_up(names.MODEL_NAME):
            writer.write(log.SerializeToString())
