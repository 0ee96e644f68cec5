import pytest

from keras_recnet.errors import ConfigError
from keras_recnet.evaluation.published import of_table
from keras_recnet.studies import definition, running, runs

# rows of Table 2 of the RecNet paper: branches, attention, weight of the cooperative loss
RECNET = {
    "Backbone+Foreground": ("foreground", None, 0.0),
    "Backbone+Two Branches": ("both", None, 0.0),
    "Background-RAM": ("both", "background", 0.0),
    "Foreground-RAM": ("both", "foreground", 0.0),
    "RecNet w/o cooperative loss": ("both", "both", 0.0),
    "RecNet": ("both", "both", 1.0),
}
# components in Table 2 of the RCAU paper: recurrent unit, spatial map, channel map, reset gate, co-perceptual loss
RCAU = {
    "Baseline": (None, True, True, True, False),
    "Baseline+RCAU": ("rcau", True, True, True, False),
    "Baseline+GRU": ("gru", True, True, True, False),
    "Baseline+RCAU+Lc": ("rcau", True, True, True, True),
    "Baseline+Lc+RCAU(s)": ("rcau", True, False, True, True),
    "Baseline+Lc+RCAU(c)": ("rcau", False, True, True, True),
    "Baseline+Lc+RCAU(-gd)": ("rcau", True, True, False, True),
}
SHORT = """
title: Mine
config: smoke
metrics: [mae]
rows:
  - {name: one}
  - {name: two, set: [epochs=1], compared_with: one}
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def planned(name, tmp_path, **options):
    study = definition.load(name)
    return runs.plan(study, tmp_path, running.select_rows(study), **options)


@pytest.mark.parametrize("name", definition.shipped())
def test_every_shipped_study_is_valid_and_starts_with_its_command(name):
    text = (definition.SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# keras-recnet study {name} -o OUT ")
    assert definition.load(name).published.table in text
    assert not [line for line in text.splitlines() if len(line) > 120]


def test_every_row_of_the_ablation_and_fusion_tables_is_a_row_of_a_study():
    studied = {}
    for name in definition.shipped():
        study = definition.load(name)
        studied.setdefault(study.published.table, set()).update(row.published for row in study.rows)
    for table in ("recnet_table2_ablation", "recnet_table3_fusion", "rcau_table2_ablation_msrc"):
        assert studied[table] == {row.method for row in of_table(table)}


def test_the_rows_of_recnet_differ_only_in_branches_attention_and_cooperative_loss(tmp_path):
    for run in planned("recnet-ablation", tmp_path):
        config = run.config
        assert (config.model.branches, config.model.attention, config.loss.cooperative_weight) == RECNET[
            run.row.published
        ]
        # everything else is as published
        assert (config.steps, config.batch_size, config.model.image_size) == (15000, 2, 384)
        assert (config.optimizer.backbone_learning_rate, config.optimizer.learning_rate) == (5e-9, 5e-8)
        assert config.loss.pixel_reduction == "sum"


def test_the_rows_of_rcau_differ_only_in_recurrent_unit_and_loss(tmp_path):
    for run in planned("rcau-ablation", tmp_path, overrides=["loss.co_perceptual.weights=vgg16.weights.h5"]):
        model, loss = run.config.model, run.config.loss
        components = (
            model.recurrent_unit,
            model.use_spatial_attention,
            model.use_channel_attention,
            model.use_reset_gate,
            loss.co_perceptual is not None,
        )
        assert components == RCAU[run.row.published]
        assert loss.co_perceptual is None or loss.co_perceptual.weights == "vgg16.weights.h5"
        assert (run.config.steps, run.config.batch_size, model.image_size) == (50000, 1, 224)


def test_the_fusions_share_one_training_run(tmp_path):
    assert [run.row.name for run in planned("recnet-fusion", tmp_path)] == ["recnet"]
    fusions = {row.published: row.fusion for row in definition.load("recnet-fusion").rows}
    assert fusions == {
        "Foreground": "foreground",
        "1-Background": "inverse_background",
        "Foreground+1-Background": "average",
        "RecNet": "subtract",
    }


def test_the_group_sizes_share_one_training_run(tmp_path):
    (run,) = planned("rcau-groups", tmp_path)
    assert run.row.name == "all"
    assert {
        row.published.partition("Lc")[2]: (row.subgroups, row.noise) for row in definition.load("rcau-groups").rows
    } == {
        "": (None, 0),
        "(5)": (5, 0),
        "(10)": (10, 0),
        "(15)": (15, 0),
        "(5+noise)": (5, 1),
        "(10+noise)": (10, 1),
    }


def test_rows_take_precedence_over_set_and_all_rows_have_the_same_seeds(tmp_path):
    options = {"overrides": ["loss.cooperative_weight=0.5", "steps=7"], "seeds": [3, 1]}
    everything = planned("recnet-ablation", tmp_path, **options)
    assert [run.seed for run in everything] == [3] * 6 + [1] * 6
    assert all(run.config.steps == 7 and run.config.seed == run.seed for run in everything)
    assert [run.config.loss.cooperative_weight for run in everything[:6]] == [0.0] * 5 + [0.5]
    assert len({run.folder for run in everything}) == 12
    edge = planned("recnet-ablation", tmp_path, config="recnet_lite0_160")
    assert {run.config.model.backbone for run in edge} == {"efficientnet_lite0"}


def test_the_rows_of_a_study_share_cached_features(tmp_path):
    everything = planned("rcau-ablation", tmp_path, config="rcau_lite0")
    assert {run.config.data.features for run in everything} == {str(tmp_path / "features")}


def test_a_study_of_your_own_is_a_yaml_file(write, tmp_path):
    study = definition.load(write(SHORT))
    assert [run.config.epochs for run in runs.plan(study, tmp_path, running.select_rows(study))] == [2, 1]
    assert study.published_rows() == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metrics: [mae]", "metrics: [mea]", r"metrics.0: must be one of mae, .* Received: 'mea'"),
        ("name: one", "name: a/b", "rows.0.name: must consist of letters"),
        ("name: one", "nam: one", r"rows.0.nam: unknown key. Did you mean 'name'\?"),
        ("name: one", "name: two", "the names of rows must be different. Received: two, two"),
        ("compared_with: one", "compared_with: two", "rows: two: compared_with must be another row. Received: 'two'"),
        ("compared_with: one", "network: one", "two: `network` must be a row with its own network"),
        ("compared_with: one", "noise: 1", "rows: two: noise images are added to subgroups. Set `subgroups`"),
        ("title: Mine", "", "title: is missing"),
        ("title: Mine", "title: Mine\npublished: {table: nothing, data_set: ECSSD}", "no published table 'nothing'"),
        (
            "title: Mine",
            "title: Mine\npublished: {table: recnet_table3_fusion, data_set: ECSSD}",
            "rows: one: no row of recnet_table3_fusion has this name. Did you mean 'Foreground'",
        ),
    ],
)
def test_errors_name_the_file_and_the_key(write, old, new, message):
    text = SHORT.replace(old, new)
    if "recnet_table3" in new:
        text = text.replace("{name: one}", "{name: one, published: Forground}")
    with pytest.raises(ConfigError, match=message):
        definition.load(write(text))


def test_unknown_studies_rows_and_keys_are_errors(tmp_path):
    with pytest.raises(ConfigError, match=r"'recnet-fusio'. Did you mean 'recnet-fusion'\? Shipped studies: rcau-abl"):
        definition.load("recnet-fusio")
    study = definition.load("recnet-fusion")
    with pytest.raises(ConfigError, match=r"--rows foregrund: the study has no such row. Its rows: foreground, inv"):
        running.select_rows(study, ["foregrund"])
    with pytest.raises(ConfigError, match=r"--set output: a study sets this key itself. Use -o"):
        runs.plan(study, tmp_path, study.rows, overrides=["output=elsewhere"])
    with pytest.raises(ConfigError, match="batch_siz: unknown key"):
        runs.plan(study, tmp_path, study.rows, overrides=["batch_siz=1"])
