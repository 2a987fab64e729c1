import re
from pathlib import Path

import pytest
import typer

from docs.build.questions import questions_table
from flaggeo.cli import app
from flaggeo.page.parts import page_template
from flaggeo.page.questions import QUESTIONS
from flaggeo.settings import MEASUREMENTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("command", re.findall(r"^    make (\w+)", README, flags=re.MULTILINE))
def test_the_commands_of_the_readme_exist(command):
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_readme_and_the_foot_of_every_page_have_the_same_questions():
    assert questions_table() in README
    foot = page_template("report.html.j2").environment.get_template("questions.html.j2").render(questions=QUESTIONS)
    for one in QUESTIONS:
        assert f"<code>flaggeo {one.command}</code>" in foot


@pytest.mark.parametrize("one", QUESTIONS, ids=lambda one: one.command)
def test_the_command_of_every_question_is_one_that_flaggeo_takes(one):
    name, *rest = one.command.split()
    command = typer.main.get_command(app).commands[name]
    given = command.make_context(name, rest).params
    assert given.get("measure") in (None, *MEASUREMENTS)


@pytest.mark.parametrize("library", ["manifolds", "proofs"])
def test_the_lines_of_a_library_run_as_pasted_and_print_what_they_say(library, capsys):
    (lines,) = re.findall(rf"```python\n((?:[^`]*\n)?(?:from|import) {library}\b[^`]*)```", README)
    exec(compile(lines, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print.*  # (.*)$", lines, flags=re.MULTILINE)
    assert len([line for line in lines.splitlines() if line]) <= 7
