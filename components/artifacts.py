"""Artifact types of our own in ML Metadata. Kubeflow Pipelines wants a namespace in their names."""

from tfx.types.artifact import Artifact


class RowAnomalies(Artifact):
    """What RowValidator found: `rows.json`, for each span its rows and, for each rule, count and first rows."""

    TYPE_NAME = "homefeed.RowAnomalies"


class DataBlessing(Artifact):
    """DataGate's verdict: `verdict.json` with the evidence; the property `blessed` is 1 where the data may be used."""

    TYPE_NAME = "homefeed.DataBlessing"


class TextEmbeddings(Artifact):
    """One record for each distinct item text: `text_embeddings-*.gz`, see `components/text_embedding_gen.py`."""

    TYPE_NAME = "homefeed.TextEmbeddings"


class ModelCards(Artifact):
    """What a run says of its model: `model_card.json` and `model_card.md`."""

    TYPE_NAME = "homefeed.ModelCard"


class RunReports(Artifact):
    """What a run says of itself to people: `report.html`."""

    TYPE_NAME = "homefeed.RunReport"


class Recommendations(Artifact):
    """BatchRecommender's table: `recommendations-*.csv` with `user_id,item_id,rank,score`; none if not pushed."""

    TYPE_NAME = "homefeed.Recommendations"
