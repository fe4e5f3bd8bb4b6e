"""Peers that have their own environment: `implicit` (iALS, BPR) and RecTools' SASRec, on CPU.

    .venv-peers/bin/python benchmarks/peer_methods.py METHOD SETTINGS LOG ASKED USERS K OUT

Reads a log as `benchmarks.splits.save` writes it, trains, and writes the best K unseen items of each user of USERS (an
.npy of indices) as [users, K] indices. ASKED is the log that says what these users have had: the same, or that of users
whom the training does not know.
"""

import json
import sys

import numpy as np
import scipy.sparse as sp

Arrays = dict[str, np.ndarray]


def _matrix(log: Arrays) -> sp.csr_matrix:
    shape = tuple(log["sizes"])
    matrix = sp.csr_matrix((np.ones(len(log["users"]), np.float32), (log["users"], log["items"])), shape)
    matrix.data[:] = 1
    return matrix


def ials(log: Arrays, asked: Arrays, users: np.ndarray, k: int, settings: dict[str, float]) -> np.ndarray:
    """Hu, Koren and Volinsky 2008; users whom the training does not know are folded in."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=int(settings["factors"]),
        regularization=settings["regularization"],
        alpha=settings["alpha"],
        iterations=15,
        random_state=1,
    )
    model.fit(_matrix(log), show_progress=False)
    had = _matrix(asked)[users]
    return model.recommend(users, had, N=k, filter_already_liked_items=True, recalculate_user=asked is not log)[0]


def bpr(log: Arrays, asked: Arrays, users: np.ndarray, k: int, settings: dict[str, float]) -> np.ndarray:
    """Rendle et al. 2009; for known users only."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=int(settings["factors"]),
        learning_rate=settings["learning_rate"],
        regularization=settings["regularization"],
        iterations=int(settings["iterations"]),
        random_state=1,
    )
    model.fit(_matrix(log), show_progress=False)
    return model.recommend(users, _matrix(asked)[users], N=k, filter_already_liked_items=True)[0]


_SASREC_BATCH = 128  # users
_SASREC_STEPS = 300  # at least: few users make short epochs


def sasrec(log: Arrays, asked: Arrays, users: np.ndarray, k: int, settings: dict[str, float]) -> np.ndarray:
    """Kang and McAuley 2018, with a softmax over 128 drawn negatives: all items would take hours on a processor."""
    import logging
    import warnings

    import pandas as pd
    import torch
    from pytorch_lightning import Trainer, seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    seed_everything(1, verbose=False)
    torch.set_num_threads(2)

    def rows_of(events: Arrays) -> pd.DataFrame:
        rows = pd.DataFrame(
            {
                Columns.User: events["users"],
                Columns.Item: events["items"],
                Columns.Datetime: pd.to_datetime(events["timestamps"], unit="s"),
                Columns.Weight: 1.0,
            }
        )
        # An item counts at its first event, as it does for every other method.
        return rows.drop_duplicates([Columns.User, Columns.Item])

    rows = rows_of(log)
    batches = -(-rows[Columns.User].nunique() // _SASREC_BATCH)
    epochs = max(int(settings["epochs"]), _SASREC_STEPS // batches)
    model = SASRecModel(
        n_factors=int(settings["factors"]),
        n_blocks=int(settings["blocks"]),
        n_heads=2,
        dropout_rate=settings["dropout"],
        session_max_len=50,
        loss="sampled_softmax",
        n_negatives=128,
        lr=0.001,
        batch_size=_SASREC_BATCH,
        epochs=epochs,
        train_min_user_interactions=2,
        get_trainer_func=lambda: Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ),
    )
    model.fit(Dataset.construct(rows))
    dataset = Dataset.construct(rows_of(asked))
    found = model.recommend(users=users, dataset=dataset, k=k, filter_viewed=True, on_unsupported_targets="ignore")
    lists = np.full((len(users), k), -1)
    place = {user: i for i, user in enumerate(users.tolist())}
    for user, item, rank in found[[Columns.User, Columns.Item, Columns.Rank]].itertuples(index=False):
        lists[place[user], rank - 1] = item
    return lists


METHODS = {"ials": ials, "bpr": bpr, "sasrec": sasrec}


def main() -> None:
    """Runs one method."""
    method, settings, log_file, asked_file, users_file, k, out = sys.argv[1:]
    with np.load(log_file) as loaded:
        log = asked = dict(loaded)
    if asked_file != log_file:
        with np.load(asked_file) as loaded:
            asked = dict(loaded)
    np.save(out, METHODS[method](log, asked, np.load(users_file), int(k), json.loads(settings)))


if __name__ == "__main__":
    main()
