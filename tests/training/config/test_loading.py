import contextlib
import inspect

import numpy as np
import pytest
import yaml

from keras_recnet.errors import ConfigError
from keras_recnet.training.config.loading import Config, GroupConfig, all_keys, differences, load, with_current_defaults
from keras_recnet.training.config.schema import (
    AugmentConfig,
    CoPerceptualConfig,
    GroupLossConfig,
    GroupModelConfig,
    LossConfig,
    ModelConfig,
)
from keras_recnet.training.config.yaml_source import SHIPPED, shipped


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_configuration_is_valid_and_starts_with_its_command(name):
    text = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("# keras-recnet train ")]
    assert text.startswith(commands[0])
    assert f"# keras-recnet train {name}" in [command.split(" --set")[0] for command in commands]
    assert load(name).output == f"runs/{name}"
    assert not [line for line in text.splitlines() if len(line) > 120]


def test_sections_match_the_arguments_and_defaults_of_their_classes():
    from keras_recnet.losses import CoPerceptualLoss, CoSaliencyLoss, SaliencyLoss
    from keras_recnet.models import RCAUNet, RecNet
    from keras_recnet.pipelines import Augment

    def defaults(function, *left_out):
        parameters = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind != p.VAR_KEYWORD and p.name not in left_out}

    assert ModelConfig().model_dump() == defaults(RecNet, "backbone_weights", "name")
    assert LossConfig().model_dump(exclude={"imagenet_weight"}) == defaults(SaliencyLoss, "name")
    assert GroupModelConfig().model_dump() == defaults(RCAUNet, "backbone_weights", "recnet", "name")
    assert GroupLossConfig().model_dump(exclude={"classification_weight"}) == defaults(
        CoSaliencyLoss, "name", "reduction"
    )
    assert CoPerceptualConfig().model_dump() == defaults(CoPerceptualLoss, "features")
    assert set(AugmentConfig.model_fields) == set(defaults(Augment))


def test_the_task_determines_the_valid_keys(write):
    config = load(write("task: cosaliency\nepochs: 1\ndata: {distractors: [0, 3], images_per_group: 8}"))
    assert isinstance(config, GroupConfig)
    assert config.data.distractors == (0, 3)
    assert differences(with_current_defaults(config.fixed()), config.fixed()) == []
    with pytest.raises(ConfigError, match=r"mine.yaml:3: model.fusion: unknown key"):
        load(write("task: cosaliency\nepochs: 1\nmodel: {fusion: average}"))
    with pytest.raises(ConfigError, match=r"mine.yaml:1: task: must be one of saliency, cosaliency. Did you mean"):
        load(write("task: cosaliancy\nepochs: 1"))
    with pytest.raises(ConfigError, match=r"data.distractors: must be a number of images, a range .* Received: 0.7"):
        load(write("task: cosaliency\nepochs: 1\ndata: {distractors: 0.7}"))


def test_the_second_stage_of_rcau_continues_the_first_on_half_of_the_images():
    first, second = load("rcau_vgg16"), load("rcau_vgg16_finetune")
    assert second.init == f"{first.output}/preset"
    assert (second.data.split.seed, second.data.split.part) == (0, "train")
    changed = [line.split(":")[0] for line in differences(first.fixed(), second.fixed())]
    assert changed == ["data.split", "init", "steps"]


@pytest.mark.parametrize("name", ["recnet_resnet50", "rcau_vgg16"])
def test_the_configurations_of_the_papers_train_on_all_images(name):
    config = load(name)
    assert config.data.validation == 0
    assert config.preset.weights == "last"


def test_the_configurations_of_recnet_lite0_warm_up_for_300_steps_on_duts():
    for name in ("recnet_lite0_160", "recnet_lite0"):
        config = load(name)
        steps = config.epochs * ((10553 - 500) // config.batch_size)
        assert round(config.optimizer.warmup_steps * steps) == 300


def test_a_warm_up_is_a_number_of_steps_or_a_share(write):
    for value in (0, 0.0, 0.1, 1, 20):
        assert load(write(f"epochs: 1\noptimizer: {{warmup_steps: {value}}}")).optimizer.warmup_steps == value
    for value in (-1, -0.1, 1.0, 2.5, ".nan", "true", "[1]"):
        with pytest.raises(ConfigError, match="warmup_steps: must be a number of steps, or a share"):
            load(write(f"epochs: 1\noptimizer: {{warmup_steps: {value}}}"))


def test_scientific_notation_is_read_as_numbers(write):
    assert load(write("epochs: 1\noptimizer: {learning_rate: 5e-9}")).optimizer.learning_rate == 5e-9


def test_set_overrides_the_file_and_parses_yaml(write):
    config = load(
        write("epochs: 3\nmodel: {image_size: 64, backbone: vgg16}"),
        ["model.image_size=[32, 64]", "epochs=null", "steps=7", "data.augment=null", "ema=0.5"],
    )
    assert config.model.image_size == (32, 64)
    assert config.model.backbone == "vgg16"
    assert (config.epochs, config.steps, config.data.augment, config.ema) == (None, 7, None, 0.5)


def test_extends_accepts_a_relative_path_and_a_shipped_name(write):
    write("extends: recnet_resnet50\nseed: 5\nmodel: {key_channels: 64}", "base.yaml")
    config = load(write("extends: base.yaml\nmodel: {image_size: 64}", "top.yaml"))
    assert (config.seed, config.model.key_channels, config.model.image_size) == (5, 64, 64)
    assert config.output == "runs/top"
    write("extends: two.yaml", "one.yaml")
    with pytest.raises(ConfigError, match="circular"):
        load(write("extends: one.yaml", "two.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "epochs: 1\ndata:\n  roots:\n  - root: A\n  - rooot: B",
            r"mine.yaml:5: data.roots\[1\].rooot: unknown key. Did you mean 'root'\?",
        ),
        ("epochs: 1\ndata: {roots: []}", r"mine.yaml:2: data.roots: list should have at least 1 item"),
        (
            "epochs: 1\ndata: {roots: [A]}",
            r"mine.yaml:2: data.roots\[0\]: must be a mapping with keys such as root, im",
        ),
        ("epochs: 1\nbatchsize: 3", r"mine.yaml:2: batchsize: unknown key. Did you mean 'batch_size'\?"),
        ("epochs: 1\nmodel:\n  backbon: vgg16", r"mine.yaml:3: model.backbon: unknown key. Did you mean 'backbone'\?"),
        ("epochs: 1\nimages: a", r"mine.yaml:2: images: unknown key. Did you mean 'data.images'\?"),
        ("epochs: 1\nxyzzy: a", "mine.yaml:2: xyzzy: unknown key. Valid keys here: task, init, model"),
        ("epochs: 1\ndata: {augment: {flp: 1}}", r"mine.yaml:2: data.augment.flp: unknown key. Did you mean 'flip'\?"),
        ("epochs: two", "mine.yaml:1: epochs: input should be a valid integer. Received: 'two'"),
        ("epochs: 1.5", "mine.yaml:1: epochs: .*integer.* Received: 1.5"),
        ("epochs: 1\nbatch_size: 0", "mine.yaml:2: batch_size: .*greater than 0. Received: 0"),
        ("epochs: 1\ndeterministic: 1", "deterministic: .*boolean. Received: 1"),
        ("epochs: 1\nprecision: float16", r"precision: must be one of .* Did you mean 'mixed_float16'\? Received"),
        ("epochs: 1\nmodel: vgg16", "mine.yaml:2: model: must be a mapping with keys such as backbone"),
        ("epochs: 1\nmodel: {image_size: 2.5}", "model.image_size: must be a number of pixels .* Received: 2.5"),
        ("seed: 1", "either `epochs` or `steps`"),
        ("epochs: 1\nsteps: 2", "either `epochs` or `steps`.* Received: epochs=1, steps=2"),
        ("epochs: 1\nepochs: 2", "mine.yaml:2: epochs: is set twice, first at .*mine.yaml:1"),
        ("epochs: [1", "mine.yaml:.*: invalid YAML"),
        ("- epochs", "mine.yaml: a configuration must be a mapping"),
        ("task: [saliency]", r"mine.yaml:1: task: must be one of saliency, cosaliency\. Did you mean 'saliency'\?"),
        ("epochs: 1\ninit: [imagenet]", r"mine.yaml:2: init: .*string\. Received: \['imagenet'\]"),
        ("epochs: 1\nprecision: {a: b}", r"mine.yaml:2: precision: must be one of .* Received: \{'a': 'b'\}"),
        ("epochs: 1\nmodel: &m\n  backbone: *m", "mine.yaml:3: invalid YAML: aliases are not supported"),
        ("- &a [*a]", "mine.yaml:1: invalid YAML: aliases are not supported"),
        ("epochs: " + 5000 * "1", "mine.yaml:1: invalid YAML: the value cannot be read .*digits"),
        ("epochs: 0x" + 5000 * "1", "mine.yaml:1: invalid YAML: the whole number is too large"),
        ("epochs: 1\nseed: " + 5000 * "[", "mine.yaml:2: invalid YAML: is nested too deeply"),
        ("epochs: 1\nseed: 2001-99-99", "mine.yaml:2: invalid YAML: the value cannot be read"),
        ("epochs: 1\nseed: !!int ''", "mine.yaml:2: invalid YAML: the value cannot be read"),
        ("? [a, b]\n: 1", "mine.yaml:1: .*a key must be a string"),
        ("1: 2\nepochs: 1", "mine.yaml:1: 1: a key must be a string"),
        ("extends: [smoke]", "mine.yaml:1: extends: must be the name or path"),
        ("extends: " + 5000 * "a", "There is no configuration or file"),
        ("extends: 3", "mine.yaml:1: extends: must be the name or path"),
    ],
)
def test_errors_name_the_file_line_and_key(write, text, message):
    with pytest.raises(ConfigError, match=message):
        load(write(text))


def test_randomly_changed_configurations_raise_config_errors_only(write):
    random = np.random.default_rng(0)
    text = (SHIPPED / "rcau_lite0.yaml").read_text(encoding="utf-8")
    snippets = [
        "[",
        "{",
        "}",
        ":",
        "- ",
        "&a ",
        "*a",
        "!!int ",
        "!!timestamp ",
        "0x",
        "\n",
        "\t",
        "\0",
        "~",
        "? ",
        "<<: ",
    ]
    for _ in range(200):
        start, end = sorted(random.integers(len(text), size=2))
        changed = text[:start] + random.choice(snippets) + text[end if random.random() < 0.1 else start :]
        with contextlib.suppress(ConfigError):
            load(write(changed))


def test_all_errors_are_reported_together_and_once(write):
    with pytest.raises(ConfigError) as info:
        load(write("epochs: a\nbatch_size: b\ndata: {validation: [1]}"))
    lines = str(info.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["data.validation", "batch_size", "epochs"]


def test_errors_in_set_name_the_entry():
    with pytest.raises(ConfigError, match=r"--set batch_siz=3: batch_siz: unknown key\. Did you mean 'batch_size'"):
        load("smoke", ["batch_siz=3"])
    with pytest.raises(ConfigError, match="--set batch_size: must be of the form key=value"):
        load("smoke", ["batch_size"])
    with pytest.raises(ConfigError, match="must be of the form key=value"):
        load("smoke", [5000 * "data." + "root=a"])
    with pytest.raises(ConfigError, match=r"--set seed=.*invalid YAML"):
        load("smoke", ["seed=[1"])


def test_the_error_for_an_unknown_configuration_names_the_closest():
    with pytest.raises(ConfigError, match=r"'smok'. Did you mean 'smoke'\? Shipped configurations: distill"):
        load("smok")


def test_a_key_missing_in_an_older_run_has_its_default():
    fixed = load("smoke").fixed()
    older = {key: value for key, value in fixed.items() if key != "ema"}
    assert differences(with_current_defaults(older), fixed) == ["ema: None → 0.9"]
    assert differences(with_current_defaults(fixed), fixed) == []


def test_output_and_checkpoint_keys_may_change_on_resume():
    assert load("smoke").fixed() == load("smoke", ["output=elsewhere", "checkpoint.keep=5", "samples=0"]).fixed()


def test_the_written_configuration_can_be_loaded(write):
    config = load("smoke")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    assert load(write(text)).fixed() == config.fixed()


def test_all_keys_include_nested_ones():
    keys = all_keys(Config)
    assert {"init", "model.image_size", "data.augment.flip", "optimizer.backbone_learning_rate"} <= set(keys)


def test_a_run_without_validation_gets_current_defaults_too():
    fixed = load("smoke", ["data.validation=0", "preset.weights=last"]).fixed()
    older = {key: value for key, value in fixed.items() if key != "ema"}
    assert differences(with_current_defaults(older), fixed) == ["ema: None → 0.9"]


@pytest.mark.parametrize("path", ["/photos/trip #1", "runs/a # b", "#1"])
def test_a_path_on_the_command_line_may_contain_a_number_sign(path):
    assert load("smoke", [f"output={path}"]).output == path
    assert load("smoke", [f'output="{path}"']).output == path
