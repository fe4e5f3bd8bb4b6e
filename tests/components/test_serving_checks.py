import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from components import serving_checks as checks
from components.serving_checks import Results, check_answers, check_files, foreign_ops, list_faults
from components.serving_requests import Person
from schema import names
from schema.saved_model import read_signature_defs
from schema.signatures import SIGNATURES

CATALOG = frozenset((b"a", b"b", b"c", b"had", b"old"))
KNOWN = {names.USER_ID: np.array([b"u"], object)}
PERSON = Person(
    KNOWN,
    {**KNOWN, names.HISTORY_ITEM_IDS: np.array([[b"old"]], object)},
    frozenset([b"old"]),
    frozenset([b"had"]),
    b"a",
)


def answer(items, scores, propensities=None):
    return {
        names.ITEM_IDS: np.array([items], object),
        names.SCORES: np.array([scores], np.float32),
        names.PROPENSITIES: np.array([propensities or [1.0] * len(items)], np.float32),
    }


def honest(_, inputs):
    """Everything but what is not wanted, best first."""
    unwanted = {b"had", b"old"} | set(inputs.get(names.EXCLUDE_ITEM_IDS, np.array([[]]))[0].tolist())
    shown = sorted(CATALOG - unwanted)
    return answer([*shown, b""], [*range(len(shown), 0, -1), 0.0])


def found(ask):
    results = Results()
    check_answers(results, "gRPC", ask, [PERSON], CATALOG)
    return {check for check, faults in results.faults.items() if faults}


def test_an_honest_server_has_no_fault():
    assert found(honest) == set()


def always(*args):
    return lambda *_: answer(*args)


@pytest.mark.parametrize(
    ("ask", "check"),
    [
        (always([b"", b""], [0.0, 0.0]), checks.EMPTY),
        (always([b"a", b"a"], [2.0, 1.0]), checks.DUPLICATES),
        (always([b"a", b"z"], [2.0, 1.0]), checks.UNKNOWN),
        (always([b"a", b"had"], [2.0, 1.0]), checks.OWNED),
        (always([b"a", b"old"], [2.0, 1.0]), checks.OWNED),
        (always([b"a", b"b"], [np.nan, 1.0]), checks.FINITE),
        (always([b"a", b"b"], [np.inf, 1.0]), checks.FINITE),
        (always([b"a", b"b"], [1.0, 2.0]), checks.ORDER),
        (always([b"a", b"b"], [2.0, 1.0]), checks.LEFT_OUT),  # whatever is excluded
        (always([b"a", b"b"], [2.0, 1.0], [0.0, 1.0]), checks.PROPENSITIES),
        (always([b"a", b"b"], [2.0, 1.0], [1.5, 1.0]), checks.PROPENSITIES),
    ],
)
def test_each_fault_is_found_by_its_check(ask, check):
    assert check in found(ask)


def test_a_good_list_has_no_fault():
    assert list(list_faults(answer([b"a", b"b", b""], [2.0, 1.0, 0.0]), CATALOG)) == []


def test_a_server_has_to_answer_as_the_trainer_did():
    expected = [(names.RECOMMEND, {}, answer([b"a"], [1.0]))]
    for ask, is_same in (
        (always([b"a"], [1.0005]), True),
        (always([b"b"], [1.0]), False),
        (always([b"a"], [1.1]), False),
        (always([b"a", b"b"], [1.0, 0.5]), False),
        (lambda *_: {}, False),
    ):
        results = Results()
        checks.check_own_answers(results, "REST", ask, expected)
        assert results.passed is is_same
    results = Results()
    checks.check_own_answers(results, "REST", always([b"a"], [1.0]), [])
    assert results.faults[checks.OWN_ANSWERS] == ["the model brings no answers of its training to compare with."]


def test_rounding_may_change_the_order_of_ties_and_a_reason_but_no_more():
    items, scores = [b"%d" % n for n in range(10)], [5.0, 4.0, 3.0, 3.0, *(2.0 - 0.1 * n for n in range(6))]
    reasons = [[b"popular"] * 10]

    def told(items, scores=scores, reasons=reasons):
        return {**answer(items, scores), names.REASONS: np.array(reasons, object)}

    def passes(found):
        results = Results()
        checks.check_own_answers(results, "gRPC", lambda *_: found, [(names.RECOMMEND, {}, told(items))])
        return results.passed

    assert passes(told(items))
    assert passes(told([b"0", b"1", b"3", b"2", *items[4:]]))  # the third and the fourth tie
    assert passes(told([*items[:9], b"other"]))  # so may the last with the one behind it
    assert passes(told(items, reasons=[[b"users", *reasons[0][1:]]]))
    assert not passes(told([b"1", b"0", *items[2:]]))
    assert not passes(told([b"other", *items[1:]]))
    assert not passes(told([*items[:8], b"other", b"another"]))
    assert not passes(told([*items[:3], b"2", *items[4:]]))  # twice
    assert not passes(told(items, reasons=[[b"users", b"users", *reasons[0][2:]]]))


def test_items_without_an_embedding_are_counted():
    def ask(_, inputs):
        items = inputs[names.ITEM_ID]
        return {names.EMBEDDING: np.array([[0.0, float(item in (b"a", b"b"))] for item in items])}

    results = Results()
    checks.check_catalog(results, ask, CATALOG)
    (fault,) = results.faults[checks.CATALOG]
    assert fault == "3 of 5 items have no embedding, among them c, had, old."


def test_slow_answers_are_told_with_their_bound():
    results = Results()
    checks.check_latency(results, {"gRPC": 0.5, "REST": 0.01}, 100)
    assert results.faults[checks.LATENCY] == ["gRPC: the median answer takes 500.0 ms, allowed are 100 ms."]
    assert results.measured[checks.LATENCY] == "gRPC 500.0 ms, REST 10.0 ms"


def test_a_model_is_compared_with_the_last_pushed_one_s_time():
    def slow(*_):
        time.sleep(0.06)

    for candidate, baseline, passed in (
        (slow, lambda *_: None, False),
        (slow, slow, True),
        (lambda *_: None, slow, True),
    ):
        results = Results()
        checks.check_slowdown(results, candidate, baseline, [PERSON] * 3, most=3)
        assert results.passed is passed


def test_memory_is_bounded_where_it_can_be_told():
    for used, passed in ((None, True), (2**20, True), (2**30, False)):
        results = Results()
        checks.check_memory(results, used, 2**21)
        assert results.passed is passed


def definition(needed, outputs):
    result = meta_graph_pb2.SignatureDef()
    for name in needed:
        result.inputs[name].name = name
    for name in outputs:
        result.outputs[name].name = name
    return result


def whole():
    return {name: definition(*sides) for name, sides in SIGNATURES.items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A SavedModel that answers nothing."""
    folder = tmp_path_factory.mktemp("plain")
    module = tf.Module()
    module.f = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(module, str(folder), signatures=module.f)
    return str(folder)


def test_signatures_and_size_are_checked_without_loading(plain):
    assert check_files(plain, whole(), 2**20).passed
    lacking = whole()
    del lacking[names.SEARCH].outputs[names.SCORES], lacking[names.EVALUATE]
    lacking[names.RECOMMEND].inputs["secret"].name = "secret"
    faults = check_files(plain, lacking, 2**20).faults[checks.SIGNATURES_CHECK]
    assert "there is no signature evaluate." in faults
    assert "search does not answer with scores." in faults
    assert "recommend cannot do without secret, user_id; a request brings user_id." in faults
    (fault,) = check_files(plain, whole(), 10).faults[checks.SIZE]
    assert "allowed are 0 MB" in fault


def test_ops_that_the_stock_binary_lacks_are_found(plain, tmp_path, shop):
    assert foreign_ops(plain) == set()
    module = tf.Module()
    module.f = tf.function(
        lambda x: tf.numpy_function(lambda a: a, [x], tf.float32), input_signature=[tf.TensorSpec([None])]
    )
    tf.saved_model.save(module, str(tmp_path / "python"), signatures=module.f)
    assert foreign_ops(str(tmp_path / "python")) == {"PyFunc"}
    assert foreign_ops(str(shop.version)) == set()


def test_the_exported_model_passes_the_checks_of_its_files(shop):
    path = str(shop.version)
    assert check_files(path, read_signature_defs(path), 2**30).faults == {
        checks.SIGNATURES_CHECK: [],
        checks.OPS: [],
        checks.SIZE: [],
    }
