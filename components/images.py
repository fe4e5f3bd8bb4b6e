"""Images of the catalogue, as the candidate tower reads them: the shop's own embedding, or a thumbnail's pixels."""

from typing import Any

import tensorflow as tf

from schema import names
from schema.errors import InputError

SIDE = 32  # pixels
EMBEDDING, FILE = "embedding", "file"  # the configuration's `images.kind`


def image_features(item_id: bytes, value: bytes, kind: str, folder: str) -> dict[str, list[Any]]:
    """The features of an item's image; none where it has no image.

    Args:
      item_id: whose it is.
      value: of the catalogue's column.
      kind: `embedding`, `file`, or anything else for none.
      folder: where files are.

    Raises:
      InputError: it cannot be read.
    """
    if value and kind == EMBEDDING:
        return {names.IMAGE_EMBEDDING: parse_embedding(item_id, value)}
    return {names.IMAGE: [thumbnail(item_id, value, folder)]} if value and kind == FILE else {}


def parse_embedding(item_id: bytes, value: bytes) -> list[float]:
    """Numbers that are parted by blanks, commas or semicolons.

    Raises:
      InputError: one is no number.
    """
    parts = value.decode("utf-8", "replace").replace(",", " ").replace(";", " ").split()
    try:
        return [float(part) for part in parts]
    except ValueError as error:
        raise InputError(
            f"catalog: item {item_id.decode('utf-8', 'replace')}: its image is no list of numbers ({error}); mend it, "
            "or set images.kind: file."
        ) from error


def thumbnail(item_id: bytes, value: bytes, folder: str) -> bytes:
    """SIDE * SIDE * 3 bytes, RGB, of the JPEG, PNG, GIF or BMP file that a catalogue's row names.

    Raises:
      InputError: the file cannot be read as an image.
    """
    path = f"{folder}/{value.decode('utf-8', 'replace')}" if folder else value.decode("utf-8", "replace")
    try:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except tf.errors.OpError as error:
        raise InputError(
            f"catalog: item {item_id.decode('utf-8', 'replace')}: {path} cannot be read as an image "
            f"({type(error).__name__}); mend the file, or leave the column empty."
        ) from error
    small = tf.image.resize(tf.cast(image, tf.float32), [SIDE, SIDE], method="area")
    return bytes(tf.cast(tf.round(small), tf.uint8).numpy().tobytes())
