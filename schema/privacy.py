"""Pseudonyms of user ids: the one function by which a log is read and a server is asked."""

import hashlib
import hmac
import os

from schema.errors import InputError

KEY_VARIABLE = "HOMEFEED_USER_ID_KEY"
_MIN_KEY_BYTES = 16


def user_id_key() -> bytes:
    """The secret key, from the environment. Raises InputError where it is missing or short."""
    key = os.environ.get(KEY_VARIABLE, "").encode()
    if len(key) < _MIN_KEY_BYTES:
        raise InputError(
            f"{KEY_VARIABLE}: holds no key of {_MIN_KEY_BYTES} bytes or more, and privacy.hash_user_ids needs one; "
            "set it in the environment (`openssl rand -hex 32` makes one) and keep it: another key makes other users."
        )
    return key


def pseudonym(user_id: bytes, key: bytes) -> bytes:
    """HMAC-SHA-256 of a user id, its first 128 bits as 32 hexadecimal digits."""
    return hmac.new(key, user_id, hashlib.sha256).hexdigest()[:32].encode()


def key_check(key: bytes) -> str:
    """Eight hexadecimal digits that tell two keys apart and nothing about either: what was read with another key is
    read again."""
    return hmac.new(key, b"homefeed key check", hashlib.sha256).hexdigest()[:8]
