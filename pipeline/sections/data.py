"""Which of the log is read, and how it is parted."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Section


class Privacy(Section):
    """What is taken out on the way in."""

    hash_user_ids: bool = Field(False, description="replace user ids by keyed hashes; the key is HOMEFEED_USER_ID_KEY")
    drop_columns: list[str] = Field([], description="columns that are never read")
    suppress: dict[str, Annotated[int, Field(ge=2)]] = Field(
        {}, description="column -> k: values that fewer than k users of a day have are taken out"
    )


class Window(Section):
    """Which days of a log that lies in daily folders are used."""

    days: int | None = Field(None, ge=1, description="the last so many calendar days; empty: all")


class Split(Section):
    """Which events train and which are held out, and what an example knows."""

    by: Literal["time", "leave_last", "user"] = Field(
        "time",
        description="time: the end of the log; leave_last: each user's last new items; user: the same, of a share of "
        "users that training never sees",
    )
    eval_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.1, description="by time: the last events of the log; by user: the users that are held out"
    )
    leave_last: int = Field(1, ge=1, description="new items of each held-out user, for leave_last and user")
    snapshots: int = Field(64, ge=2, le=256, description="moments at which recent popularity is taken")
    half_lives_days: list[Annotated[float, Field(gt=0)]] = Field(
        [14.0, 2.0, 7.0, 60.0],
        min_length=1,
        description="an event counts half for popularity after this long; the towers' prior takes the first, the "
        "ranking stage all",
    )
    windows: int = Field(
        6, ge=1, le=50, description="times before the cut, as long as what is held out, that the ranking stage learns"
    )
    history_length: int = Field(50, ge=1, le=1000, description="latest items of a user that the query tower reads")
    context: list[str] = Field(
        [], description="columns of text of behaviors that say where an event came from, such as a device"
    )
    session_minutes: float = Field(30.0, gt=0, description="a longer pause begins another session")
    max_user_events: int = Field(5_000, ge=1, description="latest events of a user that are used; older ones are not")


class Images(Section):
    """Images of the catalogue's items, which the candidate tower reads."""

    kind: Literal["none", "embedding", "file"] = Field(
        "none",
        description="embedding: the column holds numbers that a model of yours has made; file: it names JPEG or PNG "
        "files, whose thumbnails a small network reads that is trained with the towers",
    )
    column: str = Field("image", description="of the catalogue; to be declared under columns.catalog as a string")
    folder: str = Field("", description="file: where the files are")
