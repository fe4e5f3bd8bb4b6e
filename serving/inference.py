"""PredictionService's methods over a loaded version, whatever the protocol: checks, TensorFlow Serving's words for what
is wrong, and the answers.

Each method takes `run`, which runs a signature: the model itself, or a queue that makes batches of requests.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from serving.errors import Code, ServingError, invalid

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_EXAMPLES, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"

Arrays = Mapping[str, np.ndarray]
Run = Callable[[str, Arrays, Collection[str]], dict[str, np.ndarray]]
Ask = Callable[[str, Arrays, Collection[str]], Awaitable[dict[str, np.ndarray]]]
Definitions = Mapping[str, meta_graph_pb2.SignatureDef]


class Version(NamedTuple):
    """What answers a request.

    Attributes:
      number: of the version.
      definitions: signature name -> definition.
      run: (signature, inputs, outputs) -> arrays by output name.
      ask: the same, awaited; no thread waits for it.
    """

    number: int
    definitions: Definitions
    run: Run
    ask: Ask


def predict(version: Version, signature: str, inputs: Arrays, outputs: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Runs a signature.

    Args:
      version: of the model.
      signature: its name; empty means `serving_default`.
      inputs: arrays by input name.
      outputs: names of wanted outputs; all where empty.

    Raises:
      ServingError: unknown signature, input or output, a missing input, a wrong dtype or shape, or what TensorFlow
        finds wrong when it runs.
    """
    return version.run(*_checked(version, signature, inputs, outputs))


async def predict_soon(
    version: Version, signature: str, inputs: Arrays, outputs: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """As `predict`, awaited."""
    return await version.ask(*_checked(version, signature, inputs, outputs))


def _checked(
    version: Version, signature: str, inputs: Arrays, outputs: Collection[str]
) -> tuple[str, Arrays, list[str]]:
    signature = signature or DEFAULT_SIGNATURE
    definition = version.definitions.get(signature)
    if definition is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
    _check_names(definition, inputs)
    for name, value in inputs.items():
        _check_tensor(name, value, definition.inputs[name])
    wanted: list[str] = []
    for name in outputs:
        if name not in definition.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_set(definition.outputs)}."
            )
        if name in wanted:
            raise invalid(f"duplicate output tensor alias: {name}")
        wanted.append(name)
    return signature, inputs, wanted


def _check_names(definition: meta_graph_pb2.SignatureDef, inputs: Arrays) -> None:
    """`VerifyRequestInputsSize` of predict_util.cc and `GetInputValues` of TensorFlow's saved_model/util.cc."""
    sent, known = set(inputs), set(definition.inputs)
    if len(sent) > len(known) or (len(sent) < len(known) and not definition.defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} len({_set(sent)}) != len({_set(known)}). "
            f"Sent extra: {_set(sent - known)}. Missing but required: {_set(known - sent)}."
        )
    for name in sorted(known - sent - set(definition.defaults)):
        raise invalid(
            f"Signature input alias: {name}(feed name: {definition.inputs[name].name}) not found in request and no "
            f"default value provided. Inputs expected to be in the request {_set(sent)}, or default input alias set: "
            f"{','.join(sorted(definition.defaults))}"
        )
    if sent - known:
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(sent & known))}, request input: "
            f"{','.join(sorted(sent))}"
        )


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _check_tensor(name: str, value: np.ndarray, info: meta_graph_pb2.TensorInfo) -> None:
    dtype = tf.dtypes.as_dtype(info.dtype)
    sent = tf.string if value.dtype == object else tf.dtypes.as_dtype(value.dtype)
    if sent != dtype:
        raise invalid(f"input {name}: expected {dtype.name}, got {sent.name}.")
    shape = tf.TensorShape(info.tensor_shape)
    if not shape.is_compatible_with(value.shape):
        raise invalid(f"input {name}: expected shape {shape}, got {value.shape}.")


def example_count(given: input_pb2.Input) -> int:
    """How many `tf.Example`s an Input holds."""
    return len(given.example_list.examples) + len(given.example_list_with_context.examples)


def serialized_examples(given: input_pb2.Input) -> np.ndarray:
    """[examples] object: the serialized `tf.Example`s of an Input; a context goes before each of its examples.

    Raises:
      ServingError: there are none.
    """
    kind = given.WhichOneof("kind")
    context = b""
    examples: Any = ()
    if kind == "example_list":
        examples = given.example_list.examples
    elif kind == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        examples = given.example_list_with_context.examples
    if not examples:
        raise invalid("Input is empty.")
    return np.array([context + example.SerializeToString() for example in examples], object)


def classify(version: Version, signature: str, given: input_pb2.Input) -> classification_pb2.ClassificationResult:
    """Classifies examples. Raises ServingError where the signature does not classify or the input is empty."""
    signature = signature or DEFAULT_SIGNATURE
    _classifies(_named(version, signature))
    examples = serialized_examples(given)
    return _classes(version.run(signature, {_EXAMPLES: examples}, ()), len(examples))


def regress(version: Version, signature: str, given: input_pb2.Input) -> regression_pb2.RegressionResult:
    """Gives a number for each example. Raises ServingError where the signature does not, or the input is empty."""
    signature = signature or DEFAULT_SIGNATURE
    _regresses(_named(version, signature))
    examples = serialized_examples(given)
    return _regressions(version.run(signature, {_EXAMPLES: examples}, ()), len(examples))


def multi_inference(
    version: Version, tasks: Iterable[inference_pb2.InferenceTask], given: input_pb2.Input
) -> list[inference_pb2.InferenceResult]:
    """Asks several signatures of one model about the same examples; `tasks` name them and their methods.

    Raises:
      ServingError: tasks of different models, a signature twice, one that does not fit its method, or empty input.
    """
    tasks = list(tasks)
    seen: set[str] = set()
    for task in tasks:
        signature = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if signature in seen:
            raise invalid(f"Duplicate evaluation of signature: {signature}")
        seen.add(signature)
        if signature not in version.definitions:
            raise invalid(f"Requested signature not found in model graph: {signature}")
        if task.method_name == CLASSIFY:
            _classifies(version.definitions[signature])
        elif task.method_name == REGRESS:
            _regresses(version.definitions[signature])
        else:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
    examples, results = serialized_examples(given), []
    for task in tasks:
        signature = task.model_spec.signature_name or DEFAULT_SIGNATURE
        result = inference_pb2.InferenceResult()
        result.model_spec.name, result.model_spec.signature_name = task.model_spec.name, signature
        result.model_spec.version.value = version.number
        outputs = version.run(signature, {_EXAMPLES: examples}, ())
        if task.method_name == CLASSIFY:
            result.classification_result.CopyFrom(_classes(outputs, len(examples)))
        else:
            result.regression_result.CopyFrom(_regressions(outputs, len(examples)))
        results.append(result)
    return results


def _named(version: Version, signature: str) -> meta_graph_pb2.SignatureDef:
    if signature not in version.definitions:
        raise invalid(f"No signature was found with the name: {signature}")
    return version.definitions[signature]


def _classifies(definition: meta_graph_pb2.SignatureDef) -> None:
    """`PreProcessClassification` of classifier.cc, without the check of the method's name, which is off there too."""
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(definition.outputs)}")
    if _EXAMPLES not in definition.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {definition}")
    if not {_CLASSES, _SCORES} & set(definition.outputs):
        raise invalid(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {definition}"
        )


def _regresses(definition: meta_graph_pb2.SignatureDef) -> None:
    """`PreProcessRegression` of regressor.cc."""
    if len(definition.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(definition.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if _EXAMPLES not in definition.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {definition}")
    if _OUTPUTS not in definition.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {definition}")


def _classes(outputs: Arrays, examples: int) -> classification_pb2.ClassificationResult:
    labels, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    for name, values, dtype, words in (
        (_CLASSES, labels, np.dtype(object), "DT_STRING"),
        (_SCORES, scores, np.dtype(np.float32), "DT_FLOAT"),
    ):
        if values is None:
            continue
        if values.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(values.shape)}")
        if values.dtype != dtype:
            raise invalid(f"Expected {name} Tensor of {words}. Got: {_dtype(values)}")
        if len(values) != examples:
            raise invalid(f"Expected {name} output batch size of {examples}. Got: {len(values)}")
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    width = next(values.shape[1] for values in (labels, scores) if values is not None)
    for row in range(examples):
        of_example = result.classifications.add()
        for column in range(width):
            found = of_example.classes.add()
            if labels is not None:
                found.label = labels[row, column].decode("utf-8", "replace")
            if scores is not None:
                found.score = scores[row, column]
    return result


def _regressions(outputs: Arrays, examples: int) -> regression_pb2.RegressionResult:
    values = outputs[_OUTPUTS]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        found = shape_text(values.shape)
        raise invalid(f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {found}")
    if len(values) != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(values)}")
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


def shape_text(shape: Iterable[int]) -> str:
    """A shape as errors tell it."""
    return "[" + ",".join(map(str, shape)) + "]"


def _dtype(values: np.ndarray) -> str:
    dtype = tf.string if values.dtype == object else tf.dtypes.as_dtype(values.dtype)
    return f"DT_{dtype.name.upper()}"
