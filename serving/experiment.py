"""Online comparison: who is shown which model, and what is written down of it.

A user's arm follows from the experiment's name and the user's id alone, so that every process and every day says the
same, and other experiments part users independently. What is shown is logged with its propensities, what follows on it
with the same request number; user ids only as keyed pseudonyms (`HOMEFEED_USER_ID_KEY`).

The log is JSON lines, a file for each process below one folder, of two kinds:

    {"kind": "shown", "time": 1700000000.0, "experiment": "e", "arm": "a", "user": "<pseudonym>", "request": "<id>",
     "items": ["P1", ...], "scores": [...], "propensities": [...], "exploration": 0.0}
    {"kind": "event", "time": 1700000005.0, "request": "<id>", "item": "P1", "event": "click", "value": 1.0}
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from schema import names
from schema.errors import InputError
from schema.privacy import pseudonym, user_id_key
from serving.client import Client

SHOWN, EVENT = "shown", "event"


def arm_of(user_id: str, experiment: str, shares: Mapping[str, float]) -> str:
    """The arm of a user.

    Args:
      user_id: as pages know it.
      experiment: its name.
      shares: arm -> share of users, in the order that counts; shares sum to 1.

    Raises:
      InputError: shares that do not sum to 1.
    """
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise InputError(f"experiment {experiment}: shares are to be 0 or more and sum to 1; found {dict(shares)}.")
    digest = hashlib.sha256(f"{experiment}\0{user_id}".encode()).digest()
    point, upper = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for arm, share in shares.items():
        upper += share
        if point < upper:
            return arm
    return [arm for arm, share in shares.items() if share > 0][-1]  # rounding left nothing for the last point


class ExperimentLog:
    """Appends what is shown and what follows. A line is written whole or not at all.

    Args:
      folder: of the logs; each process writes a file of its own.
    """

    def __init__(self, folder: str):
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        name = f"{time.strftime('%Y%m%d')}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._file = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record."""
        os.write(self._file, f"{json.dumps(record)}\n".encode())

    def close(self) -> None:
        """Ends the log."""
        os.close(self._file)


class Experiment:
    """Shows each user the model of their arm, and logs it.

    Args:
      name: of the experiment.
      arms: arm -> client, such as one of label `stable` and one of label `canary`.
      shares: arm -> share of users.
      log: where to.

    Raises:
      InputError: there is no key for pseudonyms in the environment, or shares and arms do not fit.
    """

    def __init__(self, name: str, arms: Mapping[str, Client], shares: Mapping[str, float], log: ExperimentLog):
        if set(arms) != set(shares):
            raise InputError(
                f"experiment {name}: shares {sorted(shares)} and arms {sorted(arms)} are to be of the same."
            )
        arm_of("", name, shares)
        self.name, self._arms, self._shares, self._log, self._key = name, arms, shares, log, user_id_key()

    def recommend(self, user_id: str, **inputs: Any) -> tuple[str, dict[str, np.ndarray]]:
        """Asks for one user's feed.

        Args:
          user_id: whose.
          inputs: further inputs of the signature `recommend`, each for one user.

        Returns:
          The request's number, which events on the answer are logged with, and the answer.
        """
        arm, request = arm_of(user_id, self.name, self._shares), uuid.uuid4().hex
        answer = self._arms[arm].predict(names.RECOMMEND, {names.USER_ID: [user_id], **inputs})
        shown = answer[names.ITEM_IDS][0] != names.PADDING.encode()
        self._log.write(
            {
                "kind": SHOWN,
                "time": time.time(),
                "experiment": self.name,
                "arm": arm,
                "user": pseudonym(user_id.encode(), self._key).decode(),
                "request": request,
                "items": [item.decode() for item in answer[names.ITEM_IDS][0][shown]],
                "scores": answer[names.SCORES][0][shown].tolist(),
                "propensities": answer[names.PROPENSITIES][0][shown].tolist(),
                "exploration": float(np.ravel(inputs.get(names.EXPLORATION, 0.0))[0]),
            }
        )
        return request, answer

    def event(self, request: str, item: str, event: str, value: float = 1.0) -> None:
        """Logs what a user did with an item of an answer."""
        self._log.write(
            {"kind": EVENT, "time": time.time(), "request": request, "item": item, "event": event, "value": value}
        )
