import pytest

from pipeline.config import load_config
from pipeline.sections.gate import Gate
from schema import names
from schema.errors import InputError


def test_defaults_without_a_file():
    assert load_config().model.dimensions == 64


def test_file_and_assignment_are_read_and_the_assignment_wins(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("model: {epochs: 3, dimensions: 8}\n")
    config = load_config(str(file), ("model.epochs=5",))
    assert (config.model.epochs, config.model.dimensions) == (5, 8)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("model.epoch=3", ["unknown key model.epoch", "epochs"]),
        ("nonsense=1", ["unknown key nonsense", "model"]),
        ("model.epochs=zero", ["model.epochs", "integer", "zero"]),
        ("model.epochs=0", ["model.epochs", "greater than or equal to 1"]),
        ("split.eval_share=0.9", ["split.eval_share", "less than 0.5"]),
        ("gate.rules.no_such_rule.max_share=0.1", ["gate.rules.no_such_rule", "unknown_item"]),
        ("gate.rules.missing_user.severity=fatal", ["gate.rules.missing_user.severity", "error"]),
        ("gate.rules.missing_user.rows=keep", ["gate.rules.missing_user.rows", "quarantine"]),
        ("gate.rules.unknown_item.rows=quarantine", ["gate.rules.unknown_item.rows", "drop"]),
        ("privacy.drop_columns=[user_id]", ["privacy.drop_columns", "user_id"]),
        ("privacy.suppress.shoe_size=5", ["privacy.suppress.shoe_size"]),
        ("columns.behaviors.value=int", ["columns.behaviors.value"]),
        ("gate.expected.catalog=[colour]", ["gate.expected.catalog", "colour"]),
        ("split.by=moon", ["split.by", "leave_last"]),
        ("model", ["--set section.key=value"]),
        ("model.epochs.more=1", ["model.epochs"]),
        ("events.view=-1", ["events.view", "greater than or equal to 0"]),
    ],
)
def test_wrong_assignments_name_the_key_and_what_is_allowed(assignment, words):
    with pytest.raises(InputError) as error:
        load_config(None, (assignment,))
    assert error.value.exit_code == 2
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: [", b"- a list\n"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, content):
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.yaml"):
        load_config(str(file))


def test_a_rule_that_is_not_named_keeps_its_default():
    rules = load_config(None, ("gate.rules.missing_user.max_share=0.5",)).gate.rules
    defaults = Gate().rules
    assert rules == {**defaults, "missing_user": defaults["missing_user"].model_copy(update={"max_share": 0.5})}


def test_columns_of_one_s_own_stand_beside_homefeed_s():
    columns = load_config(None, ("columns.behaviors.device=string",)).table_columns(names.BEHAVIORS)
    assert columns[names.TIMESTAMP] == "int" and columns["device"] == "string"


def test_thresholds_are_completed_changed_and_taken_away():
    config = load_config(None, ("evaluation.thresholds.recall.at_least=0.2", "evaluation.thresholds.coverage=null"))
    thresholds = config.evaluation.thresholds
    assert (thresholds["recall"].at_least, thresholds["recall"].max_drop) == (0.2, 0.05)
    assert "ndcg" in thresholds and "coverage" not in thresholds
    own = load_config(None, ("evaluation.thresholds.mine={metric: auc_purchase, at_least: 0.6}",))
    assert own.evaluation.thresholds["mine"].at_least == 0.6


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("evaluation.thresholds.mine={metric: recall_at_7}", "recall_at_7 is not computed; metrics are recall_at_5"),
        ("evaluation.thresholds.mine={metric: auc_purchse}", "auc_purchse is not computed"),
        ("evaluation.thresholds.coverage.max_drop=0.1", "only a mean over users"),
        ("evaluation.thresholds.recall.slices=[[weekday, activity]]", "add it to evaluation.slices"),
        ("evaluation.slices=[[colour]]", "evaluation.slices.0.0"),
        ("evaluation.thresholds.recall.at_lest=1", "unknown key evaluation.thresholds.recall.at_lest"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(assignment, words):
    with pytest.raises(InputError, match="evaluation") as error:
        load_config(None, (assignment,))
    assert words in str(error.value)
