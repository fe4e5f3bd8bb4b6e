"""A model with the signatures of TensorFlow Serving's own test model, half_plus_two: y = x / 2 + 2, y2 = x / 2 + 3 of
`tf.Example`s' x, y3 of their x2; and tensors of every dtype that JSON can carry, for the REST API's forms."""

from pathlib import Path

import tensorflow as tf

_CLASSIFY, _REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def write_half_plus_two(folder: Path, plus: float = 2.0) -> Path:
    """Writes the model to a version's folder, as a TensorFlow 1 graph, and returns the folder."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        a, b, c = (v1.Variable(value, name=name) for name, value in (("a", 0.5), ("b", plus), ("c", plus + 1)))
        serialized = v1.placeholder(tf.string, name="tf_example")
        spec = {"x": v1.FixedLenFeature([1], tf.float32), "x2": v1.FixedLenFeature([1], tf.float32, [0.0])}
        parsed = v1.parse_example(serialized, spec)
        x = tf.identity(parsed["x"], name="x")
        y, y2, y3 = (a * x + b), (a * x + c), (a * parsed["x2"] + c)
        number = v1.placeholder(tf.float32, [None], name="number")
        half = a * number + b
        info = v1.saved_model.build_tensor_info
        signature = v1.saved_model.build_signature_def

        def predicts(inputs, outputs):
            told = {name: info(tensor) for name, tensor in inputs.items()}
            return signature(
                told, {name: info(tensor) for name, tensor in outputs.items()}, "tensorflow/serving/predict"
            )

        def of_examples(output, tensor, method):
            return signature({"inputs": info(serialized)}, {output: info(tensor)}, method)

        text = v1.placeholder(tf.string, [None], name="text")
        matrix = v1.placeholder(tf.float32, [None, 2], name="matrix")
        anything = {
            name: v1.placeholder(dtype, [None], name=name)
            for name, dtype in {
                "float": tf.float32,
                "double": tf.float64,
                "int32": tf.int32,
                "int64": tf.int64,
                "int8": tf.int8,
                "uint8": tf.uint8,
                "int16": tf.int16,
                "uint32": tf.uint32,
                "uint64": tf.uint64,
                "bool": tf.bool,
                "string": tf.string,
            }.items()
        }
        half_precision = v1.placeholder(tf.float16, [None], name="half")
        scalar = v1.placeholder(tf.float32, [], name="scalar")
        labels = tf.strings.as_string(tf.concat([y, y2], axis=1), precision=1)
        signatures = {
            "serving_default": predicts({"x": number}, {"y": half}),
            "regress_x_to_y": of_examples("outputs", y, _REGRESS),
            "regress_x_to_y2": of_examples("outputs", y2, _REGRESS),
            "regress_x2_to_y3": of_examples("outputs", y3, _REGRESS),
            "regress_wide": of_examples("outputs", tf.concat([y, y2], axis=1), _REGRESS),
            "classify_x_to_y": of_examples("scores", y, _CLASSIFY),
            "classify_labels": signature(
                {"inputs": info(serialized)},
                {"classes": info(labels), "scores": info(tf.concat([y, y2], axis=1))},
                _CLASSIFY,
            ),
            "echo": predicts(anything, {name: tf.identity(tensor) for name, tensor in anything.items()}),
            **{
                f"echo_{name}": predicts({"value": tensor}, {"value": tf.identity(tensor)})
                for name, tensor in anything.items()
            },
            "echo_half": predicts({"value": half_precision}, {"value": tf.cast(half_precision, tf.float32)}),
            "echo_bytes": predicts({"value": text}, {"value_bytes": tf.identity(text)}),
            "matrix": predicts({"value": matrix}, {"value": 2 * matrix}),
            "sum": predicts({"value": matrix}, {"rows": tf.reduce_sum(matrix, axis=1), "total": tf.reduce_sum(matrix)}),
            "two": predicts({"x": number, "text": text}, {"y": half, "text": tf.identity(text)}),
            "scalar": predicts({"value": scalar}, {"value": a * scalar + b}),
            "fails": predicts({"value": number}, {"value": tf.debugging.check_numerics(1 / number, "not a number")}),
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
    return folder
