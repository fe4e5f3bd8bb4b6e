"""What the documents tell people to type: every command is one that there is. `test_docs_run` runs them."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from pipeline.cli import homefeed

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "README.zh-CN.md"]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip():
                    found.append((document.name, shlex.split(line, comments=True)))
    return found


@pytest.mark.parametrize(("document", "words"), commands(), ids=lambda value: value if isinstance(value, str) else None)
def test_every_command_is_one_that_there_is(document: str, words: list[str]):
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "homefeed":
        command: click.Command = homefeed
        context = click.Context(homefeed)
        while isinstance(command, click.Group):
            name, *arguments = arguments
            found = command.get_command(context, name)
            assert found is not None, f"{document}: homefeed has no command {name}"
            command = found
        command.make_context(command.name, arguments)  # raises for an unknown option or a value that it does not take
    elif program == "make":
        subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program in ("python", "python3"):
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]), f"{document}: there is no module {arguments[1]}"
        else:
            assert arguments[0] == "to_homefeed.py"  # the document's own, see below
    elif program == "docker":
        stages = re.findall(r"^FROM .* AS (\w+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
        target = arguments[arguments.index("--target") + 1] if "--target" in arguments else stages[-1]
        assert arguments[0] == "build" and target in stages
    elif program == "curl":
        assert any("/v1/models/homefeed" in argument for argument in arguments)
    else:
        known = {"git", "kubectl", "tensorflow_model_server", "promtool", "cd"}
        assert program in known, f"{document}: nothing here knows {program}"


def test_both_languages_have_the_same_commands():
    def told(document: str) -> list[list[str]]:
        found = [words for name, words in commands() if name == document]
        return [
            [word for word, before in zip(words, ["", *words], strict=False) if before != "--why"] for words in found
        ]

    assert told("README.md") == told("README.zh-CN.md")


def test_every_link_leads_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"
