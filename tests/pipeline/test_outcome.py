"""What a run's table tells."""

from math import inf, nan

from pipeline.outcome import shown_metrics


def test_metrics_are_in_order_and_of_what_nobody_did_nothing_is_told():
    values = {
        "log_loss_purchase": 0.02,
        "log_loss_view": 0.0,
        "auc_purchase": 0.8,
        "auc_view": nan,
        "calibration_purchase": 1.1,
        "calibration_view": nan,
        "coverage_at_5": 0.1,
        "coverage_at_20": 0.2,
        "ndcg_at_5": 0.1,
        "recall_at_20": 0.2,
        "recall_at_20_lower": -inf,
        "recall_at_5": 0.1,
        "example_count": 9,
    }
    assert shown_metrics(values) == [
        "example_count",
        *("recall_at_5", "recall_at_20", "ndcg_at_5", "coverage_at_20"),
        *("auc_purchase", "calibration_purchase", "log_loss_purchase"),
    ]
