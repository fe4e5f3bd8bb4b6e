"""The exported model, asked through its signatures, against plain NumPy over what its own signatures return."""

import csv

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma

from components.examples import decode_example
from components.serving_requests import expected_answers
from schema import names
from schema.saved_model import ServableModel


@pytest.fixture(scope="module")
def model(shop) -> ServableModel:
    return ServableModel(str(shop.version))


@pytest.fixture(scope="module")
def catalog_ids(shop) -> list[bytes]:
    with (shop.catalog / "catalog.csv").open(encoding="utf-8") as file:
        return [row[names.ITEM_ID].encode() for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def held_out(shop) -> list[bytes]:
    """Serialized examples of the held-out users."""
    return records_of(shop, names.EVAL_SPLIT)


def records_of(shop, split):
    files = sorted((shop.artifact("InteractionGen", "examples") / f"Split-{split}").glob("*.gz"))
    return list(tf.data.TFRecordDataset([str(f) for f in files], compression_type="GZIP").as_numpy_iterator())


def strings(*values):
    return np.array(values, object)


def padded(lists, padding=b"", dtype=object):
    width = max(1, *(len(values) for values in lists))
    return np.array([[*values, *[padding] * (width - len(values))] for values in lists], dtype)


def ask(model, length, user_ids, **more):
    inputs = {names.USER_ID: strings(*user_ids), names.K: np.array([length], np.int32)}
    return model(names.RECOMMEND, {**inputs, **more})


def test_all_signatures_of_the_contract_are_there(model):
    assert set(model.signature_defs) == {
        names.SERVING_DEFAULT,
        names.RECOMMEND,
        names.SIMILAR_ITEMS,
        names.SEARCH,
        names.SCORE,
        names.EMBED_QUERY,
        names.EMBED_ITEM,
        names.EVALUATE,
    }
    default = model.signature_defs[names.SERVING_DEFAULT]
    assert set(default.inputs) - set(default.defaults) == {names.USER_ID}


def test_offline_metrics_equal_numpy_over_the_recommended_lists(shop, model, held_out):
    """The lists are asked as a page asks them: raw ids, raw history, what the user had left out, at the cut's time."""
    rows = [decode_example(record) for record in held_out]
    answer = ask(
        model,
        20,
        [row[names.USER_ID][0] for row in rows],
        **{
            names.HISTORY_ITEM_IDS: padded([row.get(names.HISTORY_ITEM_IDS, []) for row in rows]),
            names.HISTORY_EVENTS: padded([row.get(names.HISTORY_EVENTS, []) for row in rows]),
            names.HISTORY_TIMESTAMPS: padded([row.get(names.HISTORY_TIMESTAMPS, []) for row in rows], 0, np.int64),
            names.EXCLUDE_ITEM_IDS: padded([row.get(names.SEEN_ITEM_IDS, []) for row in rows]),
            names.EXCLUDE_SEEN: np.array([False]),
            names.TIMESTAMP: np.array([rows[0][names.TIMESTAMP][0]], np.int64),
        },
    )
    evaluation = tfma.load_eval_result(str(shop.artifact("Evaluator", "evaluation")))
    reported = dict(evaluation.slicing_metrics)
    # A stored history would stand in for an empty one, so users without any are compared through `evaluate` below.
    by_slice: dict[tuple, list[int]] = {}
    for i, row in enumerate(rows):
        by_slice.setdefault(((names.ACTIVITY, row[names.ACTIVITY][0].decode()),), []).append(i)
    compared = 0
    for key, members in by_slice.items():
        if key[0][1] == "new":
            continue
        for k in (5, 10, 20):
            recalls, gains = [], []
            for i in members:
                relevant = set(rows[i][names.TARGET_ITEM_IDS])
                hits = np.array([item in relevant for item in answer[names.ITEM_IDS][i][:k]], float)
                best = min(k, len(relevant))
                discount = 1 / np.log2(np.arange(2, k + 2))
                recalls.append(hits.sum() / best)
                gains.append((hits * discount).sum() / discount[:best].sum())
            values = reported[key][""][""]
            assert values[f"recall_at_{k}"]["doubleValue"] == pytest.approx(np.mean(recalls), abs=1e-6)
            assert values[f"ndcg_at_{k}"]["doubleValue"] == pytest.approx(np.mean(gains), abs=1e-6)
            compared += len(members)
    assert compared > 100


def test_ranks_of_newcomers_equal_numpy_over_the_scores(model, held_out, catalog_ids):
    """Users without a history before the cut: what the model has stored of them since must not be used."""
    found = model(names.EVALUATE, {names.EXAMPLES: strings(*held_out)})
    compared = 0
    for i, row in enumerate(map(decode_example, held_out)):
        if names.HISTORY_ITEM_IDS in row:
            continue
        nobody = {names.USER_ID: strings(b"nobody"), names.TIMESTAMP: np.array(row[names.TIMESTAMP], np.int64)}
        scores = model(names.SCORE, {**nobody, names.ITEM_IDS: strings([*catalog_ids])})[names.SCORES][0]
        targets = row[names.TARGET_ITEM_IDS]
        # Scores that differ by rounding alone may change places.
        lowest, highest = (
            np.array([(scores >= scores[catalog_ids.index(t)] + slack).sum() for t in targets])
            for slack in (1e-4, -1e-4)
        )
        ranks = found[names.RANKS][i][: len(targets)]
        assert ((lowest <= ranks) & (ranks <= highest)).all()
        assert found[names.RELEVANT][i] == len(targets)
        compared += 1
    assert compared


def test_examples_of_newcomers_alone_are_evaluated(model, held_out):
    newcomers = [record for record in held_out if names.HISTORY_ITEM_IDS not in decode_example(record)]
    found = model(names.EVALUATE, {names.EXAMPLES: strings(*newcomers)})
    assert (found[names.RANKS][:, 0] > 0).all()


def test_probabilities_are_of_the_log_s_events(model, catalog_ids):
    answer = model(names.SCORE, {names.USER_ID: strings(b"U000003"), names.ITEM_IDS: strings([*catalog_ids, b"none"])})
    events = {name.removesuffix("_probability") for name in answer} - {names.SCORES}
    assert events == {"view", "click", "cart", "purchase", "rating", "comment"}
    views, purchases = (answer[names.PROBABILITY.format(event=event)][0] for event in ("view", "purchase"))
    assert ((views[:-1] > 0) & (views[:-1] < 1)).all() and np.isnan(views[-1])
    assert views[:-1].mean() > purchases[:-1].mean()


def test_recommend_is_the_full_catalogue_by_score_without_what_the_user_had(model, catalog_ids):
    answer = ask(model, len(catalog_ids), [b"U000003"], **{names.NEW_ITEMS_EVERY: np.array([0], np.int32)})
    shown = [item for item in answer[names.ITEM_IDS][0] if item]
    scores = model(names.SCORE, {names.USER_ID: strings(b"U000003"), names.ITEM_IDS: strings([*catalog_ids])})[
        names.SCORES
    ][0]
    everything = ask(model, len(catalog_ids), [b"U000003"], **{names.EXCLUDE_SEEN: np.array([False])})
    assert set(everything[names.ITEM_IDS][0]) == set(catalog_ids)
    had = set(catalog_ids) - set(shown)
    assert had and len(shown) == len(set(shown))
    best = [catalog_ids[i] for i in np.argsort(-scores, kind="stable") if catalog_ids[i] not in had]
    by_id = dict(zip(catalog_ids, scores, strict=True))
    assert [by_id[item] for item in shown] == pytest.approx([by_id[item] for item in best], abs=1e-4)
    assert (answer[names.ITEM_IDS][0][len(shown) :] == b"").all()


def test_every_so_manieth_place_is_kept_for_an_item_that_nobody_has_had(shop, config, model, catalog_ids):
    # As of the cut, since this shop's model is not fitted again with what came after it.
    rows = map(decode_example, records_of(shop, names.TRAIN_SPLIT))
    had = {row[names.TARGET_ITEM_IDS][0] for row in rows if row[names.WINDOW][0] <= config.split.windows}
    new = set(catalog_ids) - had
    assert len(new) > 2
    lists = [
        ask(model, 8, [b"U000003"], **{names.NEW_ITEMS_EVERY: np.array([every], np.int32), **explore})
        for explore in ({}, {names.EXPLORATION: np.array([2.0], np.float32)})
        for every in (0, 4)
    ]
    for plain, kept in (lists[:2], lists[2:]):
        shown = kept[names.ITEM_IDS][0].tolist()
        assert {shown[3], shown[7]} <= new and len(set(shown)) == 8
        assert [r == b"new" for r in kept[names.REASONS][0]] == [place in (3, 7) for place in range(8)]
        assert shown[:3] + shown[4:7] == plain[names.ITEM_IDS][0].tolist()[:6]
    assert (lists[1][names.PROPENSITIES] == 1).all()
    assert (lists[3][names.PROPENSITIES] < 1).all()


def test_a_history_in_the_request_replaces_the_stored_one_and_is_left_out(model, catalog_ids):
    history = {names.HISTORY_ITEM_IDS: strings([catalog_ids[0], catalog_ids[16]])}
    stored, given = ask(model, 10, [b"U000003"]), ask(model, 10, [b"U000003"], **history)
    assert not (stored[names.ITEM_IDS] == given[names.ITEM_IDS]).all()
    assert not {catalog_ids[0], catalog_ids[16]} & set(given[names.ITEM_IDS][0])
    newcomer = ask(model, 10, [b"nobody"], **history)
    memories = {kind + item for kind in (b"history:", b"text:") for item in (catalog_ids[0], catalog_ids[16])}
    assert set(newcomer[names.REASONS][0]) <= {b"popular", b"users", *memories}
    assert set(newcomer[names.REASONS][0]) & memories


def test_a_user_that_nobody_knows_gets_a_list_for_reasons_of_popularity(model):
    answer = ask(model, 5, [b"nobody", b""])
    assert (answer[names.ITEM_IDS] != b"").all()
    assert (answer[names.REASONS] == b"popular").all()
    assert (answer[names.ITEM_IDS][0] == answer[names.ITEM_IDS][1]).all()


def test_controls_are_per_row(model, catalog_ids):
    first = ask(model, 6, [b"U000003"])[names.ITEM_IDS][0]
    answer = ask(
        model,
        6,
        [b"U000003"] * 4,
        **{
            names.K: np.array([6, 2, 6, 6], np.int32),
            names.EXCLUDE_ITEM_IDS: padded([[], [], [first[0], b"no such item"], []]),
            names.DIVERSITY: np.array([0, 0, 0, 0.9], np.float32),
        },
    )
    ids = answer[names.ITEM_IDS]
    assert (ids[0] == first).all()
    assert (ids[1] == [*first[:2], b"", b"", b"", b""]).all()
    assert ids[2].tolist()[:5] == first.tolist()[1:]
    assert ids[3].tolist() != first.tolist() and ids[3][0] == first[0]
    assert (answer[names.PROPENSITIES][0] == 1).all()
    vectors = {
        i: v / np.linalg.norm(v)
        for i, v in zip(
            catalog_ids,
            model(names.EMBED_ITEM, {names.ITEM_ID: strings(*catalog_ids)})[names.EMBEDDING][:, :16],
            strict=True,
        )
    }
    spread = [np.mean([vectors[a] @ vectors[b] for a in row for b in row]) for row in (ids[0], ids[3])]
    assert spread[1] < spread[0]


def test_exploration_draws_by_seed_and_states_propensities(model):
    draw = {names.EXPLORATION: np.array([3.0], np.float32)}
    one, same, other = (
        ask(model, 8, [b"U000003"], **draw, **{names.SEED: np.array([seed], np.int64)}) for seed in (1, 1, 2)
    )
    assert (one[names.ITEM_IDS] == same[names.ITEM_IDS]).all()
    assert not (one[names.ITEM_IDS] == other[names.ITEM_IDS]).all()
    assert ((one[names.PROPENSITIES] > 0) & (one[names.PROPENSITIES] < 1)).all()


def test_similar_items_leave_the_item_itself_out(model, catalog_ids):
    answer = model(names.SIMILAR_ITEMS, {names.ITEM_ID: strings(catalog_ids[0], b"no such item")})
    assert catalog_ids[0] not in answer[names.ITEM_IDS][0]
    assert (np.diff(answer[names.SCORES][0]) <= 1e-6).all()
    assert (answer[names.ITEM_IDS][1] == b"").all()


def test_search_finds_what_the_words_say(shop, model):
    with (shop.catalog / "catalog.csv").open(encoding="utf-8") as file:
        titles = {row[names.ITEM_ID].encode(): row[names.TITLE] for row in csv.DictReader(file)}
    answer = model(names.SEARCH, {names.QUERY: strings(b"a tea blend"), names.K: np.array([5], np.int32)})
    assert all("tea" in titles[item] for item in answer[names.ITEM_IDS][0])
    personal = model(
        names.SEARCH,
        {names.QUERY: strings(b"gift"), names.USER_ID: strings(b"U000003"), names.K: np.array([50], np.int32)},
    )
    plain = model(names.SEARCH, {names.QUERY: strings(b"gift"), names.K: np.array([50], np.int32)})
    assert not (personal[names.ITEM_IDS] == plain[names.ITEM_IDS]).all()


def test_unknown_items_score_nan_and_embed_to_zero(model):
    request = {names.USER_ID: strings(b"U000003"), names.ITEM_IDS: strings([b"no such item"])}
    assert np.isnan(model(names.SCORE, request)[names.SCORES]).all()
    assert not model(names.EMBED_ITEM, {names.ITEM_ID: strings(b"no such item")})[names.EMBEDDING].any()


def test_only_ops_of_the_stock_model_server(shop):
    """TF core and TF-Text: an op of any other library would have a namespace or a name that TF core does not list."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    graph = saved_model_pb2.SavedModel.FromString((shop.version / "saved_model.pb").read_bytes()).meta_graphs[0]
    nodes = [*graph.graph_def.node, *(n for f in graph.graph_def.library.function for n in f.node_def)]
    ops = {node.op for node in nodes} - {f.signature.name for f in graph.graph_def.library.function}
    text = {"FastBertTokenize", "FastBertNormalize", "FastWordpieceTokenizeWithOffsets", "TFText>FastBertNormalize"}
    text |= {"TFText>FastWordpieceTokenizeWithOffsets"}
    foreign = {op for op in ops if ">" in op and op not in text}
    assert not foreign
    assert all(op_def_registry.get(op) is not None for op in ops)
    assert not {op for op in ops if op in {"PyFunc", "EagerPyFunc", "PyFuncStateless"}}


def test_every_table_is_transform_s_own_but_the_list_of_known_users(shop):
    """So no other code turns a raw id into a feature."""
    assets = {p.name for p in (shop.version / "assets").iterdir()}
    transform = shop.artifact("Transform", "transform_graph") / "transform_fn" / "assets"
    vocabularies = {p.name for p in transform.iterdir()}
    assert {"items", "users", "events", "categories"} <= vocabularies
    assert assets - vocabularies == {"user_ids.txt"}
    for name in vocabularies & assets:
        assert (shop.version / "assets" / name).read_bytes() == (transform / name).read_bytes()


def test_the_trainer_s_own_answers_travel_with_the_model(shop, model):
    found = list(expected_answers(str(shop.version)))
    assert {signature for signature, *_ in found} == {
        names.SERVING_DEFAULT,
        names.RECOMMEND,
        names.SIMILAR_ITEMS,
        names.SEARCH,
    }
    for signature, inputs, answer in found:
        again = model(signature, inputs)
        assert again[names.ITEM_IDS].tolist() == answer[names.ITEM_IDS].tolist()
        np.testing.assert_allclose(again[names.SCORES], answer[names.SCORES], rtol=1e-4, atol=1e-5)


def test_warm_up_requests_of_real_users_travel_with_the_pushed_model_and_are_answered(shop, model):
    from tensorflow_serving.apis import prediction_log_pb2

    file = shop.version / "assets.extra" / "tf_serving_warmup_requests"
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    assert len(logs) == 13
    for log in logs:
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert names.ITEM_IDS in model(request.model_spec.signature_name, inputs)


def test_what_evaluate_tells_of_lists_agrees_with_its_ranks(model, held_out):
    found = model(names.EVALUATE, {names.EXAMPLES: strings(*held_out)})
    items, popularity, diversity = (found[n] for n in (names.TOP_ITEMS, names.TOP_POPULARITY, names.TOP_DIVERSITY))
    assert items.shape == popularity.shape == (len(held_out), names.EVALUATED_PLACES)
    assert all(len(set(row.tolist())) == len(row) for row in items)
    assert ((popularity > 0) & (popularity < 1)).all() and (found[names.CATALOG_SIZE] == 300).all()
    assert (diversity[:, 0] == 0).all() and ((diversity[:, 1:] > -1e-5) & (diversity[:, 1:] < 2)).all()
    newcomers = [names.HISTORY_ITEM_IDS not in decode_example(record) for record in held_out]
    assert (np.isnan(found[names.HISTORY_POPULARITY]) == newcomers).all()
    hits = sum(found[name] for name in found if name.endswith("_happened"))
    for ranks, row in zip(found[names.RANKS], hits, strict=True):
        assert {rank - 1 for rank in ranks.tolist() if 0 < rank <= names.EVALUATED_PLACES} == set(np.flatnonzero(row))
