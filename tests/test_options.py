"""Training's options: one spelling for key, flag and help; one sentence for every mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from model.options import OptionError, as_table, load, option, read, required


@dataclass(frozen=True)
class Run:
    """Trains something.

    This is not for the help.
    """

    corpus: Path = required("the folder of recordings", metavar="DIR")
    system: str = option("default", "which model is trained", choices=("default", "paper"))
    budget_minutes: float = option(60.0, "how long to train", unit="min", minimum=0)
    batch: int = option(8, "windows per step, 100 % of them fresh", minimum=1, maximum=64)
    encoder: Path | None = option(None, "the folder of the audio encoder")
    average: bool = option(False, "keep a moving average of the weights")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def mistake(toml: Path | None, *argv: str) -> str:
    with pytest.raises(OptionError) as caught:
        read(Run, toml, argv)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence[-1] in ".?" and sentence[-2] not in ".?"
    return sentence


def test_defaults_hold_where_neither_file_nor_flag_speaks(tmp_path):
    options = read(Run, written(tmp_path, 'corpus = "speech"'))
    assert options == Run(corpus=Path("speech"))
    assert (options.budget_minutes, options.encoder, options.average) == (60.0, None, False)


def test_key_and_flag_are_one_spelling_and_give_the_same(tmp_path):
    by_file = read(
        Run, written(tmp_path, 'corpus = "a"\nbudget_minutes = 3\nencoder = "b/c"\naverage = true\nbatch = 2')
    )
    words = ["--corpus", "a", "--budget-minutes", "3", "--encoder", "b/c", "--average", "--batch", "2"]
    assert read(Run, None, words) == by_file
    assert isinstance(by_file.budget_minutes, float) and by_file.encoder == Path("b/c")


def test_a_flag_wins_over_the_file(tmp_path):
    toml = written(tmp_path, 'corpus = "a"\naverage = true\nbatch = 2')
    options = read(Run, toml, ["--batch", "5", "--no-average", "--corpus=elsewhere"])
    assert (options.batch, options.average, options.corpus) == (5, False, Path("elsewhere"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('corpus = "a"\nbudget_minuets = 3', "unknown key budget_minuets: did you mean budget_minutes?"),
        ('corpus = "a"\nzzz = 3', "unknown key zzz."),
        ('corpus = "a"\nbudget_minutes = "long"', "must be a number in min, not 'long'"),
        ('corpus = "a"\nbudget_minutes = -1', "must be at least 0 in min, not -1"),
        ('corpus = "a"\nbudget_minutes = inf', "must be a number in min, not inf"),
        ('corpus = "a"\nbatch = 2.5', "The key batch of"),
        ('corpus = "a"\nbatch = 65', "must be at most 64, not 65"),
        ('corpus = "a"\nbatch = true', "must be a whole number, not True"),
        ('corpus = "a"\naverage = "perhaps"', "must be true or false, not 'perhaps'"),
        ('corpus = "a"\nsystem = "other"', "must be one of default, paper, not 'other'"),
        ("corpus = 3", "must be a path in quotes, not 3"),
        ("batch = 3", "Give --corpus, or the key corpus in"),
        ("[training]\nbatch = 3", "The table [training]"),
        ("batch = ", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence_that_names_the_key(tmp_path, text, says):
    sentence = mistake(written(tmp_path, text))
    assert says in sentence
    assert "run.toml" in sentence


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--budget-minuets", "3"], "There is no option --budget-minuets: did you mean --budget-minutes?"),
        (["--budget-minuets=3"], "did you mean --budget-minutes?"),
        (["--corpus", "a", "--batch", "many"], "The option --batch must be a whole number, not 'many'"),
        (["--batch"], "--batch"),
        (["stray"], "There is no option stray."),
        ([], "Give --corpus: the folder of recordings."),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence_that_names_the_option(argv, says):
    assert says in mistake(None, *argv)


def test_a_missing_file_is_named():
    assert "nowhere.toml cannot be read" in mistake(Path("nowhere.toml"))


def test_help_is_made_of_the_fields_with_units_defaults_and_what_the_file_says(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        read(Run, written(tmp_path, "batch = 5"), ["--help"])
    assert stopped.value.code == 0
    help = " ".join(capsys.readouterr().out.split())
    assert "Trains something." in help and "not for the help" not in help
    assert "--corpus DIR the folder of recordings (must be given)" in help
    assert "how long to train (default 60.0 min)" in help
    assert "windows per step, 100 % of them fresh (here 5)" in help
    assert "--average, --no-average" in help


def test_the_bare_table_tells_which_system_is_meant(tmp_path):
    assert load(written(tmp_path, 'system = "paper"\nother = 1')) == {"system": "paper", "other": 1}


def test_options_can_be_written_beside_results():
    assert as_table(Run(corpus=Path("a/b"))) == {
        "corpus": "a/b",
        "system": "default",
        "budget_minutes": 60.0,
        "batch": 8,
        "encoder": None,
        "average": False,
    }
