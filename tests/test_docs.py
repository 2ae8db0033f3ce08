"""The documents name what there is: commands, options, columns, exit codes, targets, and figures as measured."""

import json
import re
import subprocess

import pytest
from commandline import ROOT

from genrebeam.pipelines import cli
from genrebeam.pipelines.dataset.schema import CORRECTIONS, REJECTS, RESULTS

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
}
TODAY = {name: page for name, page in PAGES.items() if not name.startswith("docs/history/")}
MEASURED = json.loads((ROOT / "docs" / "figures.json").read_text(encoding="utf-8"))
FIGURES = {figure["name"]: figure for figure in MEASURED["figures"]}
NUMBER = r"\**(\d[\d,]*(?:\.\d+)?)\**"


def text(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme(name):
    command = cli.cli.get_command(None, name)
    assert command.help
    assert f"genrebeam {name}" in README or f"`{name}`" in README


@pytest.mark.parametrize(
    ("name", "document"),
    [("tag", "cli.md"), ("app", "app.md"), ("learn", "words.md"), ("playlist", "words.md"), ("compare", "training.md")],
)
def test_every_option_is_documented(name, document):
    command = cli.cli.get_command(None, name)
    options = {o for p in command.params if p.param_type_name == "option" for o in p.opts}
    missing = sorted(o for o in options if f"`{o}" not in text(document))
    assert not missing


def test_every_feature_and_algorithm_of_compare_is_documented():
    from genrebeam.model import compare, handcrafted

    names = [*handcrafted.names(audio=True), *compare.algorithm_names()]
    assert not [name for name in names if f"`{name}`" not in text("training.md")]


@pytest.mark.parametrize("schema", [RESULTS, REJECTS, CORRECTIONS])
def test_every_column_is_documented(schema):
    assert not [name for name in schema.names if f"`{name}`" not in text("results.md")]


def test_every_exit_code_is_documented():
    codes = {value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    assert codes == {int(code) for code in re.findall(r"^\| (\d+) \|", text("cli.md"), re.M)}


def test_every_target_of_the_makefile_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


def test_ci_calls_the_test_command_of_the_readme():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in README


def test_make_help_lists_the_targets():
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"tag", "demo", "test", "bench"} <= {line.split()[0] for line in shown.splitlines() if line.strip()}


def test_what_the_page_about_other_programs_shows_of_duckdb_and_pandas_works(tmp_path, capsys):
    import duckdb
    import tagfiles

    from genrebeam.pipelines.dataset.corrections import correct

    songs = [tagfiles.make(tmp_path, "flac", name) for name in ("one", "two")]
    tagfiles.results(tmp_path / "out", {song: [("blues", 0.9)] for song in songs}, root=tmp_path)
    correct(tmp_path / "out", "two.flac", "Zouk")
    tagfiles.apply_all(tmp_path / "out")
    page = text("players.md").replace("DIR/", f"{tmp_path}/out/")
    counting, written = (duckdb.sql(block).fetchall() for block in re.findall(r"```sql\n(.*?)```", page, re.S))
    assert {row[:2] for row in counting} == {("one.flac", "blues"), ("two.flac", "Zouk")}
    assert {(row[0], tuple(row[2])) for row in written} == {("one.flac", ("Blues",)), ("two.flac", ("Zouk",))}
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(block, {})
    assert "Zouk" in capsys.readouterr().out


def test_every_command_is_on_the_page_that_says_which_one_is_needed():
    assert not [name for name in cli.COMMANDS if not re.search(rf"\b{name}\b", text("which.md"))]


@pytest.mark.parametrize("name", PAGES)
def test_documents_that_are_linked_exist(name):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGES[name]):
        assert (ROOT / name).parent.joinpath(link).exists(), link


def test_paths_of_documents_that_the_code_names_exist():
    listed = subprocess.run(["git", "ls-files", "*.py", "Makefile"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.split():
        for link in re.findall(r"\bdocs/[\w./-]+\.(?:md|json)\b", (ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), f"{name} names {link}"


@pytest.mark.parametrize("name", PAGES)
def test_lines_of_markdown_are_at_most_120_characters(name):
    prose = re.sub(r"^ *```.*?^ *```", "", PAGES[name], flags=re.S | re.M)
    # A row of a table is one line. A link is not broken.
    long = [line for line in prose.splitlines() if len(line) > 120 and not re.match(r" *\||.*\]\(", line)]
    assert not long


def quotes(phrase, page):
    """The numbers that stand in a page where the phrase has {}; a * in a table's cell is any number."""
    pattern = re.escape(phrase).replace(r"\{\}", NUMBER).replace(re.escape("| * |"), r"\| [\d.,*]+ \|")
    flowing = re.sub(r"(?<!\|)\n *(?=[^|\n])", " ", page)  # a sentence may go over several lines
    return [float(number.replace(",", "")) for number in re.findall(pattern, flowing)]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_quoted_as_it_was_measured(name):
    figure = FIGURES[name]
    assert {"date", "command", "processor"} <= set(MEASURED["runs"][figure["run"]])
    for document, phrases in figure["quoted"].items():
        for phrase in phrases:
            assert quotes(phrase, TODAY[document]), f"{document} no longer says: {phrase}"
            for page, text_of_page in TODAY.items():
                assert set(quotes(phrase, text_of_page)) <= {figure["value"]}, f"{page}: {phrase}"


@pytest.mark.parametrize("document", ["README.md", "docs/benchmarks.md"])
def test_every_measured_number_of_the_page_is_in_figures_json(document):
    prose = re.sub(r"^```.*?^```", "", TODAY[document], flags=re.S | re.M)
    known = {figure["value"] for figure in FIGURES.values() if document in figure["quoted"]}
    stated = re.findall(NUMBER + r" (?:ms|s|MB|GB|%)(?!\w)", re.sub(r"of 5 MB|5 MB MP3|`[^`]*`", "", prose))
    assert stated
    assert not [number for number in stated if float(number.replace(",", "")) not in known]


def test_figures_of_the_shipped_models_are_those_of_their_evaluation():
    from genrebeam.model.bundle import SHIPPED

    for figure in (figure for figure in FIGURES.values() if "metric" in figure):
        model, *keys = figure["metric"].split("/")
        value = json.loads((SHIPPED[model] / "metrics.json").read_text(encoding="utf-8"))
        for key in keys:
            value = value[int(key)] if isinstance(value, list) else value[key]
        value = round(100 * value) if figure["unit"] == "%" else round(value, 3)
        assert value == figure["value"], figure["name"]


def test_make_tag_hands_over_names_with_blanks_and_quotes(tmp_path):
    venv = stand_in(tmp_path)
    library = '/music/Bob\'s "best" $HOME (live)'
    command = ["make", "-s", "tag", f"LIBRARY={library.replace('$', '$$')}", "OUTPUT=my out", venv]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown == f"[tag][{library}][--output][my out]"
    command = ["make", "-s", "tag", venv]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "LIBRARY=~/Music" in refused.stderr


def stand_in(tmp_path):
    """An environment for make whose command shows its arguments."""
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "genrebeam").write_text('#!/bin/sh\nprintf "[%s]" "$@"\n')
    (venv / "genrebeam").chmod(0o755)
    (tmp_path / "venv" / ".ready").touch()
    return f"VENV={tmp_path}/venv"


def test_make_install_makes_the_command_known_and_says_what_the_path_lacks(tmp_path):
    folder = tmp_path / "my bin"
    command = ["make", "-s", "install", stand_in(tmp_path), f"BIN={folder}"]
    for path, lacks in ((f"{folder}:/usr/bin:/bin", False), ("/usr/bin:/bin", True)):
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={"PATH": path}).stdout
        assert f"{folder}/genrebeam -> {tmp_path}/venv/bin/genrebeam" in said
        assert ("is not on your PATH" in said) is lacks
    run = subprocess.run([folder / "genrebeam", "x"], capture_output=True, text=True)
    assert run.stdout == "[x]"


def test_make_install_leaves_another_program_of_this_name_alone(tmp_path):
    (tmp_path / "genrebeam").write_text("another")
    command = ["make", "-s", "install", stand_in(tmp_path), f"BIN={tmp_path}"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "another program" in refused.stderr
    assert (tmp_path / "genrebeam").read_text() == "another"


def test_every_genre_of_the_shipped_models_is_explained_and_spelled():
    from genrebeam.model.bundle import SHIPPED, load_config
    from genrebeam.pipelines.tags.policy import spelled

    models = text("models.md")
    for name, folder in SHIPPED.items():
        assert f"`{name}`" in models
        for label in load_config(folder).labels:
            assert re.search(rf"^\| {label} \| .+ \| {re.escape(spelled(label))} \|$", models, re.M), label


def test_what_the_page_about_python_shows_of_neighbours_works(tmp_path, capsys, monkeypatch):
    import synth
    from commandline import genrebeam

    for number in range(3):
        synth.write(tmp_path / "music" / f"{number}.wav", synth.music(5.0, seed=number))
    genrebeam("tag", tmp_path / "music", "--output", tmp_path / "tagged", "--workers", 1)
    (tmp_path / "music" / "1.wav").rename(tmp_path / "song.mp3")
    monkeypatch.chdir(tmp_path)
    (*_, block) = re.findall(r"```python\n(.*?)```", text("python.md"), re.S)
    exec(block, {})
    first = capsys.readouterr().out.splitlines()[1]
    assert "1.wav" in first and "1.0" in first


def test_make_install_replaces_no_link_to_another_genrebeam(tmp_path):
    # As pipx makes one.
    (tmp_path / "pipx").write_text("another")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "genrebeam").symlink_to(tmp_path / "pipx")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "genrebeam").touch()
    (tmp_path / "venv" / ".ready").touch()
    command = ["make", "-s", "install", f"VENV={tmp_path}/venv", f"BIN={tmp_path}/bin"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2 and "is another program" in refused.stderr
    assert (tmp_path / "bin" / "genrebeam").read_text() == "another"


def test_the_readme_is_short():
    assert len(README.split()) <= 600


def test_nothing_says_to_install_what_a_registry_may_have_under_our_name():
    listed = subprocess.run(
        ["git", "ls-files", "features", "model", "pipelines"], cwd=ROOT, capture_output=True, text=True
    )
    code = {name: (ROOT / name).read_text(encoding="utf-8") for name in listed.stdout.split() if name.endswith(".py")}
    wrong = re.compile(r"(pip|pipx) install (-\S+ )*['\"]?genrebeam\b")
    assert not [name for name, page in {**TODAY, **code}.items() if wrong.search(page)]
