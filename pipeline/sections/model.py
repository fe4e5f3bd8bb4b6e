"""What is learned: the encoder, the towers, the ranking stage, and how the best are found."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Section, Share


class Encoder(Section):
    """The BERT encoder of item texts."""

    path: str = Field(
        "",
        description="folder with config.json, model.safetensors and vocab.txt, or with a TensorFlow Hub SavedModel, or "
        "the URL of a .tar.gz or .zip of one; empty: all-MiniLM-L6-v2",
    )
    sha256: str = Field("", pattern="^([0-9a-fA-F]{64})?$", description="of the archive that a URL serves")
    max_tokens: int = Field(64, ge=8, le=512, description="word pieces of a text that are read")
    mode: Literal["frozen", "last_n", "lora", "full"] = Field(
        "frozen",
        description="what of the encoder is trained along with the towers: nothing, its last layers, low-rank "
        "additions to its attention, everything",
    )
    last_n: int = Field(2, ge=1, description="last_n: transformer layers that are trained")
    lora_rank: int = Field(8, ge=1, description="lora: rank of the additions")
    learning_rate: float = Field(3e-5, gt=0, description="Adam's step size at its peak, of the encoder; lora bears 10x")
    recompute: bool = Field(False, description="compute activations twice instead of keeping them: less GPU memory")
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        "auto", description="of an encoder that is trained; auto: bfloat16 on GPUs that compute in it"
    )
    comments: bool = Field(
        True,
        description="read comments too: what those say that come with a rating teaches what the others say, which "
        "weighs their events and their items",
    )
    batch_size: int = Field(256, ge=1, description="texts encoded at once")
    cache: str = Field("", description="folder of embeddings that workspaces share; empty: in the workspace")


class Model(Section):
    """The two towers and their training."""

    dimensions: int = Field(64, ge=4, description="size of the query and candidate embeddings")
    text: bool = Field(True, description="the candidate tower reads the items' texts")
    epochs: int = Field(8, ge=1, description="passes over the training split, at most; validation may end it earlier")
    batch_size: int = Field(512, ge=8, description="examples a step")
    negatives: int = Field(
        16_384, ge=0, description="items drawn a step beside the batch's own; as many as the catalogue has: all of it"
    )
    learning_rate: float = Field(0.002, gt=0, description="Adam's step size at its peak")
    temperature: float = Field(0.1, gt=0, description="of the softmax over cosine similarities")
    dropout: Share = Field(0.2, description="of history items, item ids and user ids, in training")
    start: Literal["fresh", "warm", "reindex"] = Field(
        "fresh",
        description="fresh: train from nothing; warm: go on from the last pushed model; reindex: take its weights as "
        "they are, with today's catalogue and log (`homefeed reindex`)",
    )
    warm_epochs: int = Field(2, ge=1, description="warm: the towers' passes over what is learned")
    warm_rate: float = Field(
        0.1,
        gt=0,
        description="warm: the towers' step sizes, the encoder's too, as a share of those of a training from nothing",
    )
    warm_days: int = Field(
        7, ge=0, description="warm: days before what is new to the earlier model that are learned once more"
    )
    seed: int = Field(1, ge=0, description="of weights, shuffling and dropout")
    refit: bool = Field(
        True,
        description="serve a model that is trained once more, with what the Evaluator held out; else the very weights "
        "that it judged",
    )


class Tuner(Section):
    """KerasTuner over learning_rate, temperature, dropout and dimensions of `model`, before training."""

    trials: int = Field(0, ge=0, description="values that are tried, the configuration's own first; 0: none")


class Channels(Section):
    """What may speak for an item in the ranking stage."""

    towers: bool = Field(True, description="the two towers")
    items: bool = Field(True, description="item-based collaborative filtering: EASE^R and cosines")
    factors: bool = Field(True, description="matrix factorisation: the user's factors are solved for in the request")
    users: bool = Field(True, description="what the nearest users of the query's embedding had lately")
    text: bool = Field(True, description="likeness of the texts")
    popularity: bool = Field(True, description="recent popularity, at each of split.half_lives_days")
    age: bool = Field(True, description="time since an item's first event")
    comments: bool = Field(True, description="what comments say of an item")


class Ranking(Section):
    """The channels beside the towers, and the stage that learns from windows of the log how far to trust each."""

    channels: Channels = Channels()
    regularisation: float = Field(300.0, gt=0, description="EASE^R's lambda")
    shrinkage: float = Field(100.0, ge=0, description="users that are added to each item's when cosines are taken")
    nearest_items: int = Field(50, ge=1, description="by cosine, that score an item")
    neighbours: int = Field(300, ge=1, description="that an item of a history scores, of each kind")
    exact_items: int = Field(20_000, ge=2, description="items for which EASE^R is solved; beyond, cosines are alone")
    factors: int = Field(64, ge=1, description="of the matrix factorisation")
    factor_weight: float = Field(
        1.0, gt=0, description="what an observed pair counts more than another, which counts 1"
    )
    factor_regularisation: float = Field(10.0, gt=0, description="the matrix factorisation's lambda")
    factor_rounds: int = Field(
        12, ge=1, description="of alternating least squares; a quarter where they go on from an earlier window"
    )
    nearest_users: int = Field(200, ge=1, description="users whose histories speak for an item")
    crowd: int = Field(100_000, ge=1, description="latest users among whom the nearest are looked for")
    candidates: int = Field(1_000, ge=10, description="items that the ranking stage orders")
    states: int = Field(2_000, ge=1, description="users of each window that are learned from")
    epochs: int = Field(8, ge=1, description="passes over the windows' lists")
    batch_size: int = Field(32, ge=1, description="lists a step")
    learning_rate: float = Field(0.003, gt=0, description="Adam's step size at its peak")
    hidden: list[Annotated[int, Field(ge=1)]] = Field([64, 32], min_length=1, description="layers of the deep part")
    new_items_every: int = Field(
        25, ge=0, description="so manieth place of a feed is kept for an item that nobody has had yet; 0: none"
    )
    event_weight: float = Field(0.1, ge=0, description="of the events' probabilities beside the order")


class Retrieval(Section):
    """How the best of a large catalogue are found without looking at all of it, see `trainer/partitioned_top_k.py` and
    `trainer/pools.py`."""

    exact_below: int = Field(20_000, ge=0, description="items up to which all are compared; beyond, an index is asked")
    proposed: int = Field(500, ge=1, description="items that each channel proposes for the feed of a larger catalogue")
    block: int = Field(128, ge=8, description="items of a block of the index")
    probes: int = Field(32, ge=1, description="blocks that are looked at: more find more, and take longer")
