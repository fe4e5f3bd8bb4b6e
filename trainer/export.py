"""Writes a servable as a SavedModel with its signatures, their defaults, and some answers to compare a server with."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from schema import names
from schema.saved_model import EXPECTED_ANSWERS, EXTRA
from schema.signatures import INPUTS, input_specs
from trainer.servable import Servable

_ASKED = 8  # users, and items, whose answers are written along


def signatures(servable: Servable, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Signature name -> tf.function; an input is called as the method's parameter is. `defaults`: see `export`."""
    recommend = _signature(servable.recommend)

    def feed(user_id: tf.Tensor, history_item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """`recommend` in short: over REST, TensorFlow Serving wants every input of a signature."""
        asked = {names.USER_ID: user_id, names.HISTORY_ITEM_IDS: history_item_ids}
        others = [spec.name for spec in recommend.input_signature if spec.name not in asked]
        given = {name: tf.constant(defaults.get(name, INPUTS[name][2]), INPUTS[name][0]) for name in others}
        return recommend(**asked, **given)

    return {
        names.SERVING_DEFAULT: _signature(feed),
        names.RECOMMEND: recommend,
        names.SIMILAR_ITEMS: _signature(servable.similar_items),
        names.SEARCH: _signature(servable.search),
        names.SCORE: _signature(servable.score),
        names.EMBED_QUERY: _signature(servable.embed_query),
        names.EMBED_ITEM: _signature(servable.embed_item),
        names.EVALUATE: _signature(servable.evaluate),
    }


def _signature(method: Callable[..., Any]) -> Any:
    return tf.function(method, input_signature=input_specs(inspect.signature(method).parameters), autograph=False)


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


def expected_answers(
    functions: Mapping[str, Any], users: Sequence[bytes], items: Sequence[bytes]
) -> list[prediction_log_pb2.PredictionLog]:
    """Requests for the first users and items, and what the functions answer before they are written.

    Args:
      functions: signature -> function of one trace.
      users, items: ids.
    """
    requests: list[tuple[str, dict[str, Any]]] = [(names.SEARCH, {names.QUERY: [b"a present"]})]
    requests += [(names.SERVING_DEFAULT, {names.USER_ID: [user]}) for user in users[:_ASKED]]
    for item in items[:_ASKED]:
        requests.append((names.SIMILAR_ITEMS, {names.ITEM_ID: [item]}))
        requests.append((names.RECOMMEND, {names.USER_ID: [b""], names.HISTORY_ITEM_IDS: [[item]]}))
    logs = []
    for signature, inputs in requests:
        complete = _complete(functions[signature], inputs)
        asked = {name: tf.constant(value, INPUTS[name][0]) for name, value in complete.items()}
        log = prediction_log_pb2.PredictLog()
        log.request.model_spec.name, log.request.model_spec.signature_name = names.MODEL_NAME, signature
        for name, value in asked.items():
            log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        for name, value in functions[signature](**asked).items():
            log.response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        logs.append(prediction_log_pb2.PredictionLog(predict_log=log))
    return logs


def _complete(function: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A request with every input of a signature: what it leaves out takes the contract's default."""
    nobody = {names.USER_ID: [names.PADDING]}
    parameters = [spec.name for spec in function.structured_input_signature[0]]
    return {name: inputs.get(name, nobody.get(name, INPUTS[name][2])) for name in parameters}


def _leaves(servable: Servable) -> tf.Module:
    """Only what the functions hold on to: variables, tables and files. Of a Keras layer, which is not among these, each
    call would be traced and written once more, for a Python that loads it as a layer: half of the time that an export
    takes, and half of the time that it takes to load."""
    root, kinds = tf.Module(), (tf.Variable, tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset)
    root.leaves = [each for each in tf.train.TrackableView(servable).descendants() if isinstance(each, kinds)]
    return root


def export(
    servable: Servable, folder: str, defaults: Mapping[str, Any], users: Sequence[bytes], items: Sequence[bytes]
) -> None:
    """Writes the SavedModel to `folder`, with the answers to some of `users` and `items`; `defaults` of inputs replace
    those of `INPUTS`."""
    # Traced here, since what is traced in a save is traced again when it is called.
    functions = {name: function.get_concrete_function() for name, function in signatures(servable, defaults).items()}
    tf.saved_model.save(_leaves(servable), folder, signatures=functions)
    _declare_defaults(folder, defaults)
    extra = os.path.join(folder, EXTRA)
    tf.io.gfile.makedirs(extra)
    with tf.io.TFRecordWriter(os.path.join(extra, EXPECTED_ANSWERS)) as writer:
        for log in expected_answers(functions, users, items):
            writer.write(log.SerializeToString())
