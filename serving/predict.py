"""A predict request, whatever the protocol: checks its inputs against the signature and runs it."""

from collections.abc import Collection, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from schema.errors import InputError
from schema.saved_model import ServableModel

DEFAULT_SIGNATURE = "serving_default"


def predict(
    model: ServableModel, signature: str, inputs: Mapping[str, np.ndarray], outputs: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Runs a signature.

    Args:
      model: the loaded version.
      signature: its name; empty means `serving_default`.
      inputs: arrays by input name.
      outputs: names of wanted outputs; all where empty.

    Raises:
      InputError: unknown signature, input or output, a missing input, a wrong dtype or shape.
    """
    signature = signature or DEFAULT_SIGNATURE
    definition = model.signature_defs.get(signature)
    if definition is None:
        raise InputError(f'Serving signature key "{signature}" not found.')
    unknown = sorted(set(inputs) - set(definition.inputs))
    missing = sorted(set(definition.inputs) - set(definition.defaults) - set(inputs))
    if unknown or missing:
        raise InputError(
            "Inputs do not fit the signature: "
            f"sent and unknown: {{{','.join(unknown)}}}, expected and missing: {{{','.join(missing)}}}."
        )
    for name, value in inputs.items():
        _check(name, value, definition.inputs[name])
    foreign = sorted(set(outputs) - set(definition.outputs))
    if foreign:
        raise InputError(f"output tensor alias not found in signature: {foreign[0]}")
    try:
        results = model(signature, inputs)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise InputError(f"{signature}: {str(error).splitlines()[0]}") from error
    return {name: value for name, value in results.items() if not outputs or name in outputs}


def _check(name: str, value: np.ndarray, info: meta_graph_pb2.TensorInfo) -> None:
    dtype = tf.dtypes.as_dtype(info.dtype)
    sent = tf.string if value.dtype == object else tf.dtypes.as_dtype(value.dtype)
    if sent != dtype:
        raise InputError(f"input {name}: expected {dtype.name}, got {sent.name}.")
    shape = tf.TensorShape(info.tensor_shape)
    if not shape.is_compatible_with(value.shape):
        raise InputError(f"input {name}: expected shape {shape}, got {value.shape}.")
