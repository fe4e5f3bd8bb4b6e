"""Transform's graph, one feature at a time: the feature code that a served model runs is the one that made its training
examples."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import tf2_utils


class FeatureGraph:
    """Transform's graph as functions of single features.

    `TransformFeaturesLayer` runs the whole graph with stand-ins for all that is not given: hundreds of nodes around one
    look-up, in each place that needs one, and a table for each look-up of the graph. Here only what a feature depends
    on is there.

    Args:
      transform: Transform's output.

    Attributes:
      tables: what the functions made so far look up in. An export has to track it, since only tables of tracked objects
        are initialised where it is loaded.
    """

    def __init__(self, transform: tft.TFTransformOutput):
        self._loaded = tf.saved_model.load(transform.transform_savedmodel_dir)
        parts = tf.train.TrackableView(self._loaded).descendants()
        kind = tf.saved_model.experimental.TrackableResource
        self._tables = [(part.resource_handle, part) for part in parts if isinstance(part, kind)]
        self.tables: list[Any] = [part for part in parts if isinstance(part, tf.saved_model.Asset)]

    def of_values(self, raw: str, feature: str) -> Callable[[tf.Tensor], tf.Tensor]:
        """[n] values of a raw feature to the [n] values of what Transform makes of them.

        Args:
          raw: name of a sparse input.
          feature: name of a sparse output that takes each of that input's values by itself.

        Raises:
          ValueError: it depends on more than these values.
        """
        function = self._loaded.transform_fn
        inputs = tf2_utils.get_structured_inputs_from_func_graph(function.graph)
        outputs = tf.nest.pack_sequence_as(
            function.graph.structured_outputs, function.graph.outputs, expand_composites=True
        )
        # A function's output waits for all look-ups that it makes: what it passes on does not.
        source, result = inputs[raw].values, outputs[feature].values.op.inputs[0]
        needed = _upstream(result.op)
        given = len(function.inputs) - len(function.captured_inputs)  # the captured ones come last
        captured = zip(function.inputs[given:], function.captured_inputs, strict=True)
        tables = {inner.name: outer for inner, outer in captured if inner.op in needed}
        fed_ones = {source.name, *tables}
        others = {op.name for op in needed if op.type == "Placeholder" and op.outputs[0].name not in fed_ones}
        if others:
            raise ValueError(f"{feature} depends on more than the values of {raw}: {', '.join(sorted(others))}.")
        self.tables += [part for handle, part in self._tables if any(handle is outer for outer in tables.values())]
        nodes = [op.node_def for op in function.graph.get_operations() if op in needed]
        graph = tf.compat.v1.GraphDef(node=nodes, versions=function.graph.graph_def_versions)

        # A function of its own, so that it is in the export once, and not in each place that looks something up.
        @tf.function(input_signature=[tf.TensorSpec([None], source.dtype)], autograph=False)
        def values(strings: tf.Tensor) -> tf.Tensor:
            fed = {name: tf.identity(outer) for name, outer in tables.items()}
            (found,) = tf.graph_util.import_graph_def(graph, {**fed, source.name: strings}, [result.name], name="")
            return tf.ensure_shape(found, [None])

        return values


def _upstream(op: tf.Operation) -> set[tf.Operation]:
    """An operation and all that it waits for."""
    found, open_ones = {op}, [op]
    while open_ones:
        one = open_ones.pop()
        before = {*(tensor.op for tensor in one.inputs), *one.control_inputs} - found
        found |= before
        open_ones += before
    return found
