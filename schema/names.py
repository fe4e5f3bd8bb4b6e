"""Names of columns, features, splits and signature tensors: one name for one thing, from storage to serving."""

# --- Columns of the input tables -------------------------------------------------------------------------------------
USER_ID = "user_id"
ITEM_ID = "item_id"
EVENT = "event"
TIMESTAMP = "timestamp"
VALUE = "value"
COMMENT = "comment"
TITLE = "title"
DESCRIPTION = "description"
CATEGORY = "category"
PRICE = "price"
SOURCE = "source"
COUNTRY = "country"
LANGUAGE = "language"
GENDER = "gender"
AGE = "age"

BEHAVIORS = "behaviors"
CATALOG = "catalog"
USERS = "users"
TABLES = (BEHAVIORS, CATALOG, USERS)

# Column -> type, in the order in which the adapters write them.
COLUMNS: dict[str, dict[str, type]] = {
    BEHAVIORS: {
        USER_ID: bytes,
        ITEM_ID: bytes,
        EVENT: bytes,
        TIMESTAMP: int,
        VALUE: float,
        COMMENT: bytes,
        SOURCE: bytes,
    },
    CATALOG: {ITEM_ID: bytes, TITLE: bytes, DESCRIPTION: bytes, CATEGORY: bytes, PRICE: float},
    USERS: {USER_ID: bytes, COUNTRY: bytes, LANGUAGE: bytes, GENDER: bytes, AGE: int},
}
REQUIRED_COLUMNS = {BEHAVIORS: (USER_ID, ITEM_ID, EVENT, TIMESTAMP), CATALOG: (ITEM_ID, TITLE), USERS: (USER_ID,)}
# What a row is about, and so what its like are grouped by.
KEY_COLUMN = {BEHAVIORS: USER_ID, CATALOG: ITEM_ID, USERS: USER_ID}
# Types that the configuration may give to further columns.
COLUMN_TYPES: dict[str, type] = {"string": bytes, "int": int, "float": float}

# ExampleGen adds where a row came from (`2010-12-01/behaviors.csv:17`), so that a gate can name it, and what of it
# could not be read.
SOURCE_ROW = "source_row"
BROKEN_ROW = "broken_row"  # 1 where a line is not CSV of its file's header
UNREADABLE = "unreadable"  # columns whose text is no number though the column's type is one
REASON = "reason"  # of a quarantined row: the rule that it breaks
ROW_COLUMNS: dict[str, type] = {SOURCE_ROW: bytes, BROKEN_ROW: int, UNREADABLE: bytes}
CATEGORY_SEPARATOR = "|"
EVENT_SEPARATOR = "\x1f"

# --- Features of the interaction examples (InteractionGen's output, Transform's input) --------------------------------
HISTORY_ITEM_IDS = "history_item_ids"
HISTORY_EVENTS = "history_events"
HISTORY_TIMESTAMPS = "history_timestamps"
HISTORY_SESSIONS = "history_sessions"
SEEN_ITEM_IDS = "seen_item_ids"
SEEN_TIMESTAMPS = "seen_timestamps"  # of each seen item, when its first event was
SEEN_WINDOWS = "seen_windows"  # and how many ranking windows of the user had begun by then
TARGET_ITEM_IDS = "target_item_ids"
TARGET_EVENTS = "target_events"
TARGET_EVENT_SETS = "target_event_sets"  # of each target, its events, with separators
WINDOW = "window"
WEIGHT = "weight"
ACTIVITY = "activity"
POPULARITY = "popularity"
TEXT = "text"
SENTIMENT = "sentiment"
TRAITS = "traits"  # `column=value` of a user's profile and of an event's context
TEXT_EMBEDDING = "text_embedding"
IMAGE = "image"  # pixels
IMAGE_EMBEDDING = "image_embedding"
SNAPSHOT_TIMESTAMPS = "snapshot_timestamps"
KNOWN_EVENTS = "known_events"

# --- Features that slices of the evaluation go by: SliceGen adds all but activity to the eval examples ----------------
WEEKDAY = "weekday"
TARGET_CATEGORY = "target_category"
TARGET_PRICE = "target_price"
TARGET_AGE = "target_age"
SLICES = (ACTIVITY, WEEKDAY, TARGET_CATEGORY, TARGET_PRICE, TARGET_AGE)

# --- Features that only Transform's output has ------------------------------------------------------------------------
USER_INDEX = "user_index"
TRAIT_INDICES = "trait_indices"
ITEM_INDEX = "item_index"
HISTORY_ITEMS = "history_items"
HISTORY_EVENT_INDICES = "history_event_indices"
SEEN_ITEMS = "seen_items"
TARGET_ITEMS = "target_items"
TARGET_EVENT_INDICES = "target_event_indices"
CATEGORY_INDICES = "category_indices"
PRICE_SCALED = "price_scaled"

# --- Splits ----------------------------------------------------------------------------------------------------------
# ExampleGen's and RowValidator's splits are the spans: a day each (`2010-12-01`), or this one where there are no days.
ALL_SPLIT = "all"
TRAIN_SPLIT = "train"  # one example for each item that a user was new to, those that the Evaluator holds out included
WINDOWS_SPLIT = "windows"  # one example for each user and window: what a cut at its start would have held out
EVAL_SPLIT = "eval"  # one example for each user with new items after the cut
CATALOG_SPLIT = "catalog"  # one example for each item
USERS_SPLIT = "users"  # one example for each user, as of the log's end: what serving knows of them
TIMELINE_SPLIT = "timeline"  # one example: the moments at which popularity was taken
TRAINER_SPLITS = (TRAIN_SPLIT, WINDOWS_SPLIT, CATALOG_SPLIT, USERS_SPLIT, TIMELINE_SPLIT)

# --- Where a training starts: the configuration's `model.start` -------------------------------------------------------
FRESH = "fresh"
WARM = "warm"
REINDEX = "reindex"
# Which towers a model keeps: those of the ranking windows, those that the Evaluator judges, those that are served.
WINDOWS_TOWERS, CUT_TOWERS, NOW_TOWERS = "windows", "cut", "now"

# --- The SavedModel's contract: signatures and their tensors ---------------------------------------------------------
RECOMMEND = "recommend"
SIMILAR_ITEMS = "similar_items"
SEARCH = "search"
SCORE = "score"
EMBED_QUERY = "embed_query"
EMBED_ITEM = "embed_item"
EVALUATE = "evaluate"
SERVING_DEFAULT = "serving_default"  # the same function as RECOMMEND

K = "k"
EXCLUDE_ITEM_IDS = "exclude_item_ids"
EXCLUDE_SEEN = "exclude_seen"
DIVERSITY = "diversity"
EXPLORATION = "exploration"
SEED = "seed"
NEW_ITEMS_EVERY = "new_items_every"
QUERY = "query"
EXAMPLES = "examples"
ITEM_IDS = "item_ids"
SCORES = "scores"
REASONS = "reasons"
PROPENSITIES = "propensities"
PROBABILITY = "{event}_probability"
EMBEDDING = "embedding"
RANKS = "ranks"
RELEVANT = "relevant"
TOP_ITEMS = "top_items"
TOP_POPULARITY = "top_popularity"
TOP_DIVERSITY = "top_diversity"
HISTORY_POPULARITY = "history_popularity"
CATALOG_SIZE = "catalog_size"
HAPPENED = "{event}_happened"
INDEX_RECALL = "index_recall"  # of `evaluate`, and the metric that is its mean
EVALUATED_PLACES = 50  # of each list, that `evaluate` tells

# --- Metrics, see `trainer/metrics/` for what each is: of lists `NAME_at_K`, of probabilities `NAME_EVENT` ------------
RANKED_METRICS = ("recall", "ndcg", "mrr", "hit_rate", "precision", "f1", "map")
SHOWN_METRICS = ("novelty", "diversity")
USER_METRICS = (*RANKED_METRICS, *SHOWN_METRICS)  # means over users: they have intervals and a change
EXPOSURE_METRICS = ("coverage", "gini", "popularity_lift")
PROBABILITY_METRICS = ("auc", "log_loss", "calibration")
AT_K = "{metric}_at_{k}"
LOWER, UPPER, CHANGE = "{metric}_lower", "{metric}_upper", "{metric}_change"

MODEL_NAME = "homefeed"
PADDING = ""  # of string tensors: a slot that holds nothing
