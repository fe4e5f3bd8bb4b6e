"""What one training leaves to the next."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from schema.errors import InputError
from tests.trainer.shapes import DAY, catalog_of, vocabulary_of
from tests.trainer.test_fitting import CUT, ITEMS, SETTINGS, USERS, data_of, inputs_of, scores
from tests.trainer.test_two_tower import towers
from trainer import weights
from trainer.collaborative import als_factors, interaction_matrix
from trainer.feed import Order
from trainer.fitting import fit
from trainer.ranker import train_ranker
from trainer.weights import order_arrays


def settings_of(start, **model):
    return {**SETTINGS, "model": {**SETTINGS["model"], "start": start, **model}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    fitted = fit(data_of(), SETTINGS, str(folder / "checkpoints"))
    weights.save(fitted.weights, str(folder / "weights"))
    return fitted, weights.load(str(folder / "weights"))


def test_files_hold_what_was_trained(trained):
    fitted, loaded = trained
    assert set(loaded) == {"windows", "cut", "now", "order_cut", "order_now", "fresh_order_cut", "fresh_order_now"}
    for name, arrays in fitted.weights.items():
        assert {key: value.tolist() for key, value in arrays.items()} == {
            key: value.tolist() for key, value in loaded[name].items()
        }


def test_files_may_lie_where_no_path_leads():
    """In TensorFlow's own file system in memory, as they may in a bucket."""
    weights.save({"cut": {"until": np.array(7), "users": np.array([b"a", b"b"])}}, "ram://weights")
    (arrays,) = weights.load("ram://weights").values()
    assert weights.until_of(arrays) == 7 and arrays["users"].tolist() == [b"a", b"b"]


def test_rows_go_to_whom_they_were_of_and_newcomers_stay_fresh():
    catalog = catalog_of(12)
    old, new = towers(), towers()
    for n, variable in enumerate(old.learned().values()):
        variable.assign(tf.random.stateless_uniform(variable.shape, [n, 1]))
    before = vocabulary_of(3, catalog)
    arrays = weights.tower_arrays(old, before, 5)
    # The first user and item are gone, others came, and everybody has another number.
    after = before._replace(users=[b"u2", b"new", b"u1"], items=[b"other", *before.items[:0:-1]])
    fresh = {name: variable.numpy() for name, variable in new.learned().items()}
    weights.set_tower_arrays(new, arrays, after)
    users, items = new.query_tower.user_table.numpy(), new.candidate_tower.item_table.numpy()
    table = next(name for name, rows in new.tables().items() if rows == "users")
    assert (users[[0, 2, 3]] == old.query_tower.user_table.numpy()[[2, 1, 3]]).all()
    assert (users[1] == fresh[table][1]).all()
    assert (items[1:] == old.candidate_tower.item_table.numpy()[:0:-1]).all()
    assert new.met.numpy()[1] == old.met.numpy()[11]
    assert weights.until_of(arrays) == 5


def test_an_item_s_factors_go_to_it_and_a_newcomer_has_none():
    learned = np.arange(1.0, 7, dtype=np.float32).reshape(3, 2)
    arrays = weights.with_item_factors({"items": np.array([b"a", b"b", b"c"])}, learned)
    found = weights.item_factors_of(arrays, [b"c", b"new", b"a"], 2)
    assert found.tolist() == [[5, 6], [0, 0], [1, 2]]
    assert weights.item_factors_of(arrays, [b"c"], 3) is None
    assert weights.item_factors_of({}, [b"c"], 2) is None


def test_weights_of_another_model_are_refused():
    catalog = catalog_of(12)
    arrays = weights.tower_arrays(towers(), vocabulary_of(3, catalog), 0)
    with pytest.raises(InputError, match=r"has changed since; train anew"):
        weights.set_tower_arrays(towers(dimensions=4), arrays, vocabulary_of(3, catalog))
    with pytest.raises(InputError, match="events have changed"):
        weights.set_tower_arrays(towers(), arrays, vocabulary_of(3, catalog)._replace(events=[b"click", b"buy"]))


def test_a_folder_without_weights_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no weights"):
        weights.load(str(tmp_path))


def test_re_indexing_trains_nothing_and_answers_the_same(trained, tmp_path):
    fitted, earlier = trained

    def no_training(window, since):
        raise AssertionError("trains")

    data = dataclasses.replace(data_of(), earlier=earlier, batches=no_training)
    again = fit(data, settings_of("reindex"), str(tmp_path))
    asked = data.window(CUT)
    for one, other in ((again.then, fitted.then), (again.now, fitted.now)):
        assert scores(one, asked) == pytest.approx(scores(other, asked), abs=1e-5)


def test_re_indexing_places_a_new_item_by_its_content(trained, tmp_path):
    _, earlier = trained
    data = dataclasses.replace(data_of(), earlier=earlier)
    catalog = data.catalog
    twin = {
        name: np.concatenate([value, value[:1]])
        for name, value in vars(catalog).items()
        if name not in ("item_ids", "snapshots", "images")
    }
    grown = dataclasses.replace(catalog, **twin, item_ids=np.append(catalog.item_ids, b"twin"))
    vocabulary = data.vocabulary._replace(items=grown.item_ids.tolist())
    data = dataclasses.replace(data, catalog=grown, vocabulary=vocabulary)
    again = fit(data, settings_of("reindex"), str(tmp_path))
    model = again.now.channels.model
    vectors = again.now.channels.item_vectors.numpy()
    assert model.met.numpy()[ITEMS] == 0
    model.met.assign(np.zeros((ITEMS + 1, 1)))
    content = model.candidate_tower(tf.constant([0], tf.int64)).numpy()[0]
    assert vectors[ITEMS] == pytest.approx(content, abs=1e-6)
    assert scores(again.now, data.window(CUT)).shape == (USERS, ITEMS + 1)


def test_a_warm_start_goes_on_from_the_weights(trained, tmp_path):
    fitted, earlier = trained
    tiny = settings_of("warm", warm_rate=1e-9, refit=False)
    data = data_of()
    data = dataclasses.replace(data, earlier=earlier, windows=data.window(CUT))
    again = fit(data, tiny, str(tmp_path))
    query = again.then.channels.query(*inputs_of(data_of().window(CUT), slice(None)))
    expected = fitted.then.channels.query(*inputs_of(data_of().window(CUT), slice(None)))
    assert query.vectors.numpy() == pytest.approx(expected.vectors.numpy(), abs=1e-4)


def test_each_warm_start_takes_the_ranking_stage_on_from_the_last_training_from_nothing(trained, tmp_path, monkeypatch):
    fitted, earlier = trained
    learned, ends = [], []

    def noted(lists, hyper, epochs, seed, known):
        learned.append((np.unique(lists.windows).tolist(), epochs, order_arrays(Order(weights_of_first, known))))
        ranker = train_ranker(lists, hyper, epochs, seed, known)
        ends.append(order_arrays(Order(weights_of_first, ranker)))
        return ranker

    weights_of_first = earlier["order_cut"]["weights"]
    monkeypatch.setattr("trainer.fitting.train_ranker", noted)
    # What the day before has made of it, for which only the first stage's weights count.
    yesterday = {name: np.zeros_like(value) for name, value in earlier["order_cut"].items()} | {
        "weights": weights_of_first
    }
    data = dataclasses.replace(data_of(), earlier={**earlier, "order_cut": yesterday, "order_now": yesterday})
    # Of the two windows before the cut, the earlier training has seen the first.
    windows = data.windows
    moments = windows.moments - np.where(windows.windows == 1, DAY, 0)
    data = dataclasses.replace(data, windows=dataclasses.replace(windows, moments=moments))
    settings = settings_of("warm")
    again = fit(data, settings, str(tmp_path))
    assert set(again.weights) == set(fitted.weights)
    epochs = settings["ranking"]["epochs"]
    assert [(numbers, passes) for numbers, passes, _ in learned] == [([2], 2 * epochs), ([2, CUT], 3 * epochs // 2)]
    for name, (_, _, known), end in zip(("cut", "now"), learned, ends, strict=True):
        fresh = earlier[f"fresh_order_{name}"]
        half_way = {part: (value + fresh[part]) / 2 for part, value in end.items() if part != "weights"}
        assert not order_arrays_equal(end, fresh)
        for part, value in half_way.items():
            assert again.weights[f"order_{name}"][part] == pytest.approx(value, abs=1e-6)
        assert order_arrays_equal(known, fresh) and order_arrays_equal(again.weights[f"fresh_order_{name}"], fresh)


def test_the_windows_that_the_earlier_training_has_seen_some_of_teach_nothing(trained, tmp_path):
    _, earlier = trained
    seen = {**earlier, "windows": {**earlier["windows"], "until": earlier["windows"]["until"] + 1}}
    data = dataclasses.replace(data_of(), earlier=seen)
    again = fit(data, settings_of("warm"), str(tmp_path))
    for name in ("windows", "order_cut", "order_now"):
        assert order_arrays_equal(again.weights[name], seen[name])
    assert not order_arrays_equal(again.weights["cut"], seen["cut"])


def test_a_training_that_has_seen_what_is_judged_is_not_gone_on_from(trained, tmp_path):
    fitted, earlier = trained
    spoiled = {**earlier, "cut": {**earlier["cut"], "until": earlier["cut"]["until"] + 1}}
    again = fit(dataclasses.replace(data_of(), earlier=spoiled), settings_of("warm"), str(tmp_path))
    for name, arrays in fitted.weights.items():
        assert order_arrays_equal(again.weights[name], arrays)


def test_other_channels_than_the_ranking_stage_s_are_told(trained, tmp_path):
    _, earlier = trained
    shorter = {**earlier["order_cut"], "weights": earlier["order_cut"]["weights"][:-1]}
    data = dataclasses.replace(data_of(), earlier={**earlier, "order_cut": shorter})
    with pytest.raises(InputError, match=r"once with model\.start=fresh"):
        fit(data, settings_of("warm"), str(tmp_path))


def test_a_warm_start_learns_what_is_new_and_some_days_before(trained, tmp_path):
    _, earlier = trained
    asked = []

    def noted(window, since):
        asked.append((window, since))
        return data_of().batches(window, 0)

    data = dataclasses.replace(data_of(), earlier=earlier, batches=noted)
    fit(data, settings_of("warm", warm_days=3, refit=False), str(tmp_path / "warm"))
    since = {towers: weights.until_of(earlier[towers]) - 3 * DAY for towers in ("windows", "cut")}
    # All windows of this log begin at one moment, so none of them is closed.
    assert asked == [(1, since["windows"]), (CUT, since["cut"]), (2, since["windows"])]


@pytest.mark.parametrize("are_times", [True, False])
def test_the_windows_towers_come_to_the_last_window_for_the_next_training_where_these_are_times(tmp_path, are_times):
    asked = []

    def noted(window, since):
        asked.append((window, since))
        return data_of().batches(window, 0)

    windows = data_of().windows
    # The windows begin one after another; one user's own begin elsewhere, or do not.
    moments = (90 + windows.windows) * DAY + (0 if are_times else windows.users == 0)
    data = dataclasses.replace(data_of(), batches=noted, windows=dataclasses.replace(windows, moments=moments))
    data = dataclasses.replace(data, users=dataclasses.replace(data.users, moments=np.full(USERS, 99 * DAY)))
    fitted = fit(data, settings_of("fresh", warm_days=3), str(tmp_path))
    untils = {name: weights.until_of(fitted.weights[name]) / DAY for name in ("windows", "cut", "now")}
    assert untils == {"windows": 92 if are_times else 91, "cut": 93, "now": 99}
    further = [(2, (91 - 3) * DAY)] if are_times else []
    assert asked == [(1, 0), (CUT, 0), (CUT + 1, 0), *further]

    def factors_at(window, rounds, start=None):
        matrix = interaction_matrix(data.pairs.before(window), USERS, ITEMS)
        return als_factors(matrix, 4, 1.0, 1.0, rounds, SETTINGS["model"]["seed"], start).items

    # What goes along has seen no more than its towers; a later window's goes on from an earlier one's.
    first = factors_at(1, SETTINGS["ranking"]["factor_rounds"])
    expected = factors_at(2, 1, first) if are_times else first
    assert fitted.weights["windows"]["item_factors"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "lost", "towers"),
    [
        ({}, (), {"windows", "cut", "now"}),
        ({"refit": False}, ("now", "fresh_order_now"), {"windows", "cut"}),
        ({}, ("fresh_order_now",), set()),
        ({}, ("now",), set()),
        ({"start": "fresh"}, (), set()),
        ({}, ("windows", "fresh_order_cut"), set()),
        ({"start": "reindex"}, ("windows", "fresh_order_cut", "fresh_order_now"), {"cut", "now"}),
    ],
)
def test_what_a_training_goes_on_from_is_told_before_it(trained, tmp_path, change, lost, towers):
    _, earlier = trained
    kept = {name: arrays for name, arrays in earlier.items() if name not in lost}
    weights.save(kept, weights.weights_folder(str(tmp_path)))
    model = settings_of("warm")["model"] | change
    assert weights.learned(str(tmp_path), model) == {name: weights.until_of(earlier[name]) for name in towers}


def order_arrays_equal(one, other):
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


def test_weights_that_have_seen_what_is_judged_are_not_used(trained, tmp_path):
    _, earlier = trained
    spoiled = {**earlier, "cut": {**earlier["cut"], "until": earlier["cut"]["until"] + 1}}
    data = dataclasses.replace(data_of(), earlier=spoiled)
    with pytest.raises(InputError, match=r"reindex: the log ends before"):
        fit(data, settings_of("reindex"), str(tmp_path / "reindex"))
    # Without windows, since only the cut's towers are asked here.
    data = dataclasses.replace(data, windows=data.window(CUT))
    settings = [settings_of(start, learning_rate=1e-9, epochs=1, refit=False) for start in ("warm", "fresh")]
    warm, fresh = (fit(data, one, str(tmp_path / one["model"]["start"])) for one in settings)
    query = inputs_of(data.window(CUT), slice(None))
    vectors = [one.then.channels.query(*query).vectors.numpy() for one in (warm, fresh)]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-4)
