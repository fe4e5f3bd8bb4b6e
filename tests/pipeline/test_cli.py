import csv
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from pipeline.cli import homefeed, main
from schema import names


def call(*arguments: object, monkeypatch, capsys) -> tuple[int, str, str]:
    """Runs the command line in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["homefeed", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def cli(monkeypatch, capsys):
    return lambda *arguments: call(*arguments, monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["data"],
        ["data", "sample"],
        ["data", "online-retail"],
        ["data", "movielens"],
        ["run"],
        ["serve"],
        ["query"],
        ["recommend"],
    ],
)
def test_every_command_explains_itself_with_an_example(command):
    result = CliRunner().invoke(homefeed, [*command, "--help"])
    assert result.exit_code == 0
    assert not command or "Example: homefeed " in result.output


def test_help_answers_without_loading_tensorflow():
    start = time.perf_counter()
    code = "import sys, pipeline.cli; print('tensorflow' in sys.modules, 'tfx' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
    assert time.perf_counter() - start < 30


def test_a_run_does_not_wait_for_the_clients_of_google_s_ai_platform():
    code = "import sys, pipeline.local_runner, pipeline.kubeflow.step; print('google.cloud.aiplatform' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "--behaviors"),
        (["nonsense"], "nonsense"),
        (["data", "sample", "--out", "x", "--events", "0"], "--events"),
        (["data", "online-retail", "--out", "x", "--from", "tomorrow"], "YYYY-MM-DD"),
        (["run", "--behaviors", "no", "--catalog", "no", "--workspace", "w", "--set", "model.depth=3"], "model.depth"),
        (["run", "--behaviors", "no", "--catalog", "no", "--workspace", "w"], "no: is not a folder"),
        (["query", "search", "x", "--address", "localhost"], "grpc://"),
    ],
)
def test_wrong_arguments_exit_with_2_and_one_clear_line(cli, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(*arguments)
    assert code == 2
    assert words in err and "Traceback" not in err
    assert not any(tmp_path.iterdir())


def test_recommend_writes_lists_without_what_users_had(cli, shop, tmp_path):
    users = tmp_path / "users.txt"
    users.write_text("U000003\n\nsomebody new\n")
    out = tmp_path / "lists.csv"
    assert cli("recommend", "--model", shop.base, "--users", users, "--k", 4, "--out", out)[0] == 0
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [(r["user_id"], int(r["rank"])) for r in rows] == [
        (user, rank) for user in ("U000003", "somebody new") for rank in (1, 2, 3, 4)
    ]
    had = {
        row[names.ITEM_ID]
        for file in shop.behaviors.glob("*/*.csv")
        for row in csv.DictReader(file.open(encoding="utf-8"))
        if row[names.USER_ID] == "U000003" and row[names.ITEM_ID] and row[names.EVENT] != "hover"
    }
    assert had and not had & {r["item_id"] for r in rows if r["user_id"] == "U000003"}
    assert (
        cli("recommend", "--model", shop.version, "--users", "all", "--k", 300, "--include-seen", "--out", out)[0] == 0
    )
    everything = {r["item_id"] for r in csv.DictReader(out.open(encoding="utf-8")) if r["user_id"] == "U000003"}
    assert len(everything) == 300 and had <= everything


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "{w}", "--users", "all"], "no SavedModel"),
        (["--model", "{m}", "--users", "{w}/none"], "cannot be read"),
        (["--model", "{m}", "--users", "{w}/empty"], "no user id"),
    ],
)
def test_recommend_names_what_it_cannot_read_and_writes_nothing(cli, shop, tmp_path, arguments, words):
    (tmp_path / "empty").write_text("\n")
    filled = [a.format(w=tmp_path, m=shop.version) for a in arguments]
    code, _, err = cli("recommend", *filled, "--out", tmp_path / "lists.csv")
    assert code == 2 and words in err
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_serve_tells_its_versions(cli):
    code, out, _ = cli("serve", "--version")
    assert code == 0 and out.splitlines()[1].startswith("TensorFlow Library: 2.")


def test_query_prints_a_table_with_titles_and_reasons(cli, shop):
    from serving.server import Flags, running_server

    flags = Flags(-1, rest_api_port=-1, model_name=names.MODEL_NAME, model_base_path=str(shop.base))
    with running_server(flags) as (grpc_port, rest_port):
        address = f"http://localhost:{rest_port}"
        code, out, _ = cli("query", "recommend", "U000003", "--k", 3, "--address", address, "--catalog", shop.catalog)
        assert code == 0 and "because of" in out
        address = f"grpc://localhost:{grpc_port}"
        code, out, _ = cli("query", "search", "tea", "--k", 3, "--address", address, "--catalog", shop.catalog)
        assert code == 0 and "tea" in out
        assert cli("query", "similar_items", "P000001", "--address", address)[0] == 0
    code, _, err = cli("query", "search", "tea", "--address", "grpc://localhost:9")
    assert code == 1 and "UNAVAILABLE" in err
