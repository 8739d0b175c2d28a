"""The configuration loader: bases, overrides, types, and errors that say where and what."""

import math
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from xkd.config import ConfigError, Settings, dump, load, locate, plain, read_with_base
from xkd.jobs import JOBS, schemas

CONFIGS = Path(__file__).parent.parent / "configs"


class Video(Settings):
    fps: int = Field(8, gt=0)
    scale: tuple[float, float] = (0.1, 1.0)


class Svm(Settings):
    name: Literal["svm"] = "svm"
    c: float = 1.0


class Linear(Settings):
    name: Literal["linear"] = "linear"
    epochs: int


class Model(Settings):
    sharing: Literal["none", "student", "both"] = "none"
    dim: int
    video: Video = Video()

    @model_validator(mode="after")
    def _whole_stride(self):
        if 24 % self.video.fps:
            raise ValueError(f"video.fps: {self.video.fps} does not divide 24; choose 8 or 12")
        return self


class Job(Settings):
    job: Literal["toy"]
    name: str = "toy"
    lr: float = 1.0
    cache: bool = False
    limit: int | Literal["all"] = "all"
    out: Path | None = None
    per_class: dict[str, int] = Field({})
    model: Model
    protocol: Annotated[Svm | Linear, Field(discriminator="name")] = Svm()

    @model_validator(mode="after")
    def _name_and_model_agree(self):
        if self.name == "big" and self.model.dim < 100:
            raise ValueError("a big job wants model.dim of 100 or more")
        return self


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a yaml file below the working directory and returns its relative path."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="run.yaml"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def load_job(path, *overrides):
    return load(path, overrides, {"toy": Job})


def errors_of(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_job(path, *overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("text", "number"), [("1e-4", 1e-4), ("1e4", 1e4), ("-2E+3", -2e3), (".5", 0.5), ("3", 3.0), ("1.", 1.0)])
def test_every_way_to_write_a_number_gives_a_float(write, text, number):
    config = load_job(write(f"job: toy\nlr: {text}\nmodel: {{dim: 4, video: {{scale: [{text}, 1]}}}}"))
    assert (config.lr, type(config.lr)) == (number, float)
    assert config.model.video.scale == (number, 1.0)
    assert load_job("run.yaml", f"lr={text}").lr == number


def test_a_whole_number_may_be_written_with_an_exponent_and_a_broken_one_may_not(write):
    path = write("job: toy\nmodel: {dim: 1e3}")
    assert load_job(path).model.dim == 1000
    assert errors_of(path, "model.dim=1e-3") == ["command line: model.dim: 0.001 is not a whole number"]


@pytest.mark.parametrize("text", ["no", "on", "2025-01-31", "1:30", "007", "0x10"])
def test_text_that_older_yaml_reads_as_something_else_stays_text(write, text):
    assert load_job(write("job: toy\nmodel: {dim: 4}"), f"name={text}").name == text


def test_sections_merge_over_a_chain_of_bases_each_relative_to_its_file(write):
    write("job: toy\nlr: 3\nname: root\nmodel: {dim: 4, video: {fps: 4, scale: [0, 1]}}", "shared/root.yaml")
    write("base: ../shared/root.yaml\nname: middle\nmodel: {video: {scale: [0.5, 1]}}", "variants/middle.yaml")
    config = load_job(write("base: variants/middle.yaml\nmodel: {dim: 8}"), "lr=5")
    assert (config.name, config.lr) == ("middle", 5.0)
    assert config.model == Model(dim=8, video=Video(fps=4, scale=(0.5, 1.0)))


def test_a_base_that_closes_a_circle_is_named_with_the_circle(write):
    write("base: sub/two.yaml", "one.yaml")
    path = write("base: ../one.yaml", "sub/two.yaml")
    assert errors_of(path) == ["one.yaml: base: 'sub/two.yaml' closes a circle: sub/two.yaml -> one.yaml -> sub/two.yaml"]


def test_a_base_may_be_a_packaged_configuration(write):
    found = plain(read_with_base(write("base: pretrain/demo.yaml\nseed: 7")))
    assert (found["job"], found["seed"]) == ("pretrain", 7)


@pytest.mark.parametrize(
    ("base", "says"),
    [("none.yaml", "'none.yaml' does not exist (looked for none.yaml, and among"), ("[a]", "['a'] is not the path of one")],
)
def test_a_base_that_cannot_be_read_is_named(write, base, says):
    (error,) = errors_of(write(f"base: {base}"))
    assert error.startswith(f"run.yaml: base: {says}")


def test_a_later_override_wins_and_a_section_can_be_given_whole(write):
    path = write("job: toy\nmodel: {dim: 4, sharing: both}")
    config = load_job(path, "model.dim=5", "model={dim: 6, video: {fps: 6}}", "model.video.fps=12", "out=null")
    assert config.model == Model(sharing="both", dim=6, video=Video(fps=12))


@pytest.mark.parametrize("override", ["lr", "=3", "model..dim=3"])
def test_an_override_that_is_no_assignment_is_shown(write, override):
    (error,) = errors_of(write("job: toy\nmodel: {dim: 4}"), override)
    assert error == f"command line: {override!r} is not of the form section.key=value"


def test_all_errors_come_at_once_each_with_the_place_that_set_the_value(write):
    write("job: toy\nmodel: {dim: wide, sharing: none}", "base.yaml")
    path = write("base: base.yaml\nlr: fast\nmodel: {video: {scale: [0.1]}}")
    assert errors_of(path, "model.sharing=students", "cache=2", "model.video.fps=0") == [
        "run.yaml: lr: 'fast' is not a number",
        "command line: cache: 2 is not one of true, false",
        "command line: model.sharing: 'students' is not one of none, student, both; did you mean student?",
        "base.yaml: model.dim: 'wide' is not a whole number",
        "command line: model.video.fps: 0 is not above 0",
        "run.yaml: model.video.scale.1: is missing; set it",
    ]


def test_what_is_missing_is_named_with_the_file_that_was_asked_for(write):
    write("job: toy", "base.yaml")
    assert errors_of(write("base: base.yaml")) == ["run.yaml: model: is missing; set it"]


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("model.sharin=none", "model.sharin: unknown key; did you mean sharing?"),
        ("fps=3", "fps: unknown key; did you mean model.video.fps?"),
        ("model.video.qq=3", "model.video.qq: unknown key; known here: fps, scale"),
        ("protocol={name: svm, epochs: 3}", "protocol.epochs: unknown key; known here: name, c"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest_known_one(write, override, hint):
    assert errors_of(write("job: toy\nmodel: {dim: 4}"), override) == [f"command line: {hint}"]


def test_a_cross_field_check_is_reported_at_the_field_it_names(write):
    path = write("job: toy\nmodel: {dim: 4}")
    assert errors_of(path, "model.video.fps=5") == ["command line: model.video.fps: 5 does not divide 24; choose 8 or 12"]


def test_a_check_that_names_no_field_is_reported_at_its_section_with_all_its_sources(write):
    path = write("job: toy\nmodel: {dim: 4}")
    assert errors_of(path, "name=big") == ["run.yaml + command line: a big job wants model.dim of 100 or more"]


def test_the_members_of_a_union_make_one_sentence_under_the_path_the_user_wrote(write):
    path = write("job: toy\nmodel: {dim: 4}")
    assert errors_of(path, "limit=some") == ["command line: limit: 'some' is not a whole number and 'some' is not one of all"]
    assert errors_of(path, "protocol.name=svn") == [
        "command line: protocol.name: 'svn' is not one of svm, linear; did you mean svm?"
    ]
    assert errors_of(path, "protocol.c=3") == ["run.yaml: protocol.name: is missing; set it"]
    assert errors_of(path, "protocol={name: linear, epochs: x}") == ["command line: protocol.epochs: 'x' is not a whole number"]
    assert errors_of(path, "per_class.cat=x") == ["command line: per_class.cat: 'x' is not a whole number"]


def test_a_value_in_place_of_a_section_is_told_the_keys(write):
    assert errors_of(write("job: toy\nmodel: small")) == [
        "run.yaml: model: 'small' is not a section; its keys are sharing, dim, video"
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "run.yaml: is empty"),
        ("- a", "run.yaml: is not a mapping"),
        ("lr: [1", "run.yaml: line 1: is not valid yaml"),
        ("lr: 1\njob: toy\nlr: 2", "run.yaml: line 3: is not valid yaml: 'lr' is set twice"),
        ("job: toy\n1: 2", "run.yaml: line 2: is not valid yaml: the key 1 is not text"),
        ("lr: !!python/name:os.system", "run.yaml: line 1: is not valid yaml"),
        ("model: {dim: 4}", "run.yaml: job: is missing; set it to toy"),
        ("job: tyo", "run.yaml: job: 'tyo' is not one of toy; did you mean toy?"),
        ("job: [toy]", "run.yaml: job: ['toy'] is not one of toy"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_with_its_name(write, text, says):
    assert errors_of(write(text))[0].startswith(says)


def test_a_path_that_does_not_exist_is_looked_up_among_the_packaged_configurations(write):
    assert locate("pretrain/demo.yaml").samefile(CONFIGS / "pretrain/demo.yaml")
    own = write("job: toy", "pretrain/demo.yaml")
    assert locate("pretrain/demo.yaml").samefile(own)
    (error,) = errors_of("pretrain/none.yaml")
    assert error.startswith("pretrain/none.yaml: no such configuration file")


@given(
    name=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn"])),
    lr=st.floats(allow_nan=False),
    limit=st.one_of(st.integers(), st.just("all")),
    out=st.one_of(st.none(), st.sampled_from([Path("1e4"), Path("null"), Path("2025-01-31"), Path("a b/ç: #")])),
    per_class=st.dictionaries(st.sampled_from(["no", "1", "null", "1e4", "cat"]), st.integers()),
)
def test_a_dumped_configuration_loads_to_an_equal_one(tmp_path_factory, name, lr, limit, out, per_class):
    config = Job(job="toy", name=name, lr=lr, limit=limit, out=out, per_class=per_class, model=Model(dim=4))
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump(config), encoding="utf-8")
    assert load_job(path) == config


@pytest.mark.soak
def test_many_dumped_configurations_load_to_equal_ones(tmp_path_factory):
    many = settings(max_examples=5_000, deadline=None)(test_a_dumped_configuration_loads_to_an_equal_one)
    many(tmp_path_factory)


def test_a_loaded_configuration_cannot_be_changed(write):
    config = load_job(write("job: toy\nmodel: {dim: 4}"))
    with pytest.raises(ValidationError):
        config.model.dim = 5


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_committed_configuration_loads_and_survives_a_dump(path, tmp_path):
    job = plain(read_with_base(path)["job"])
    assert job in JOBS
    config = load(path, [] if job in ("pretrain", "study") else ["checkpoint=RUN"], schemas())
    again = tmp_path / "dumped.yaml"
    again.write_text(dump(config))
    assert load(again, [], schemas()) == config
    assert all(math.isfinite(value) for value in numbers(config.model_dump()))


def numbers(tree):
    if isinstance(tree, dict | list | tuple):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from numbers(value)
    elif isinstance(tree, int | float):
        yield tree
