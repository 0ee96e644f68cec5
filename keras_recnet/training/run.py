"""`keras-recnet train`: from a configuration to a preset folder."""

import contextlib
import os
import shlex
import sys
from pathlib import Path

import keras

from keras_recnet import optimizers
from keras_recnet.errors import ConfigError, DataError, DiskError, MissingExtraError
from keras_recnet.files import atomic_path, disk_errors, is_disk_full
from keras_recnet.training import cosaliency_task, ema, logs, saliency_task
from keras_recnet.training.checkpoints import Checkpoint, CheckpointFolder, check_disk, read
from keras_recnet.training.config.loading import Config, as_of_now, differences, load
from keras_recnet.training.loop import Loop, State, peak_memory_mb, total_steps
from keras_recnet.training.progress import Progress, clock

LOG_BYTES = 50_000_000  # room for tables, events, curves and sheets
TASKS = {"saliency": saliency_task, "cosaliency": cosaliency_task}


def train(
    config_path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = (), resume: bool = False, stream=None
) -> Path:
    """Trains as a configuration says, and writes a preset folder.

    Args:
        config_path: a shipped configuration's name, or a YAML file.
        overrides: `"dotted.key=value"` entries that are laid over it.
        resume: go on with the run in the output folder from its newest checkpoint. On a CPU with `deterministic: true`
            the weights end the same, to the bit, as without the interruption.
        stream: where progress is shown; standard error by default.

    Returns:
        The preset's folder.

    Raises:
        RecNetError: if the configuration, the data, the disk or the run's folder do not allow the training.
        SystemExit: with status 130 after Ctrl-C or SIGTERM; a checkpoint is written then.
    """
    config = load(config_path, overrides)
    command = shlex.join(
        ["keras-recnet", "train", os.fspath(config_path), *(part for entry in overrides for part in ("--set", entry))]
    )
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return _train(config, command, resume, stream or sys.stderr)
    except KeyboardInterrupt:
        print(f"\nStopped before anything new was to be saved. Go on with: {command} --resume", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        keras.config.set_dtype_policy(policy)


def build_optimizer(config: Config, model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a training of `steps` steps, with a learning rate of its own for the backbone if wanted."""
    chosen = config.optimizer

    def one(rate: float):
        average = {} if config.ema is None else {"use_ema": True, "ema_momentum": config.ema}
        decay = {"weight_decay": chosen.weight_decay or None, "global_clipnorm": chosen.clip}
        schedule = _schedule(chosen, rate, steps)
        if chosen.name == "sgd":
            return ema.SGD(schedule, momentum=chosen.momentum, **decay, **average)
        return ema.AdamW(schedule, **{**decay, "weight_decay": chosen.weight_decay}, **average)

    if chosen.backbone_learning_rate is None:
        return one(chosen.learning_rate)
    return optimizers.two_rates(model, one(chosen.backbone_learning_rate), one(chosen.learning_rate))


def _schedule(chosen, rate: float, steps: int):
    warmup = chosen.warmup_steps
    if warmup >= steps:
        raise ConfigError(
            f"optimizer.warmup_steps: {warmup} is not less than the {steps} steps of the whole training. "
            f"Say --set optimizer.warmup_steps={steps // 10}, or train longer."
        )
    if chosen.schedule == "cosine":
        return optimizers.warmup_cosine(rate, steps, warmup)
    if warmup:
        raise ConfigError(
            f"optimizer.warmup_steps: goes with schedule: cosine alone. Received: schedule={chosen.schedule!r}"
        )
    if chosen.schedule == "poly":
        return keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0, power=chosen.power)
    return rate


def _train(config: Config, command: str, resume: bool, stream) -> Path:
    def say(text: str):
        print(text, file=stream, flush=True)

    folder = Path(config.output)
    checkpoints = CheckpointFolder(folder / "checkpoints", config.checkpoint.keep)
    found = _checkpoint_to_resume(config, checkpoints, command, resume)
    if config.tensorboard and not logs.tensorboard_installed():
        raise MissingExtraError(
            "tensorboard: the package is not installed. Install it with: pip install tensorboard, or go without: "
            "--set tensorboard=false"
        )
    if config.steps is not None:
        _schedule(config.optimizer, config.optimizer.learning_rate, config.steps)  # is wrong before it costs time
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    checkpoints.remove_unfinished()
    of_task = TASKS[config.task]
    files = of_task.find(config, folder)

    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        _make_deterministic()
    model = of_task.build_model(config)
    slots = {"adamw": 2, "sgd": 1}[config.optimizer.name] + (config.ema is not None)
    check_disk(folder, checkpoints.bytes_needed(model, slots) - checkpoints.bytes_used() + LOG_BYTES)
    say(describe_device())
    data = of_task.data_of(config, files, model, say)
    if found and found.state["data"] != data.fingerprint:
        raise DataError(
            f"{folder}: the images have changed since this run began: others are found or held out now. Restore them, "
            f"or start a new run with --set output=FOLDER."
        )

    steps = total_steps(config, data.training.steps_per_epoch)
    loss, fitted = of_task.loss(config, model), of_task.fitted(config, model)
    fitted.compile(build_optimizer(config, model, steps), loss, jit_compile=_jit_compile())
    fitted.optimizer.build(fitted.trainable_variables)
    if fitted is not model:
        model.compile(fitted.optimizer, loss, jit_compile=_jit_compile())
    judge, scores = of_task.judge(model, fitted)
    judge.compile(None, loss, **scores, jit_compile=_jit_compile())

    state = State(config=config.fixed(), data=data.fingerprint)
    if found:
        found.restore(model)
        state = State.of(found.state)
        say(f"Going on from {found.path}: epoch {state.epoch + 1}, {state.step:,} of {steps:,} steps done.")
    say(
        f"{data.counts}; {steps:,} steps of "
        f"{config.batch_size}; {model.count_params() / 1e6:.2f} M parameters; output in {folder}"
    )
    _write_config(config, folder)
    run_logs = logs.Logs(folder, state.step, config.tensorboard)
    progress = Progress(steps, config.batch_size, state.step, stream=stream, of=of_task.COUNTED)
    loop = Loop(config, model, fitted, judge, data, state, checkpoints, run_logs, progress)
    try:
        complete = loop.run()
    except (DiskError, OSError) as error:
        if isinstance(error, OSError) and not is_disk_full(error):
            raise
        said = error if isinstance(error, DiskError) else f"{folder}: the disk is full."
        kept = checkpoints.paths()
        rest = f"{kept[-1]} is whole, go on from it" if kept else "No checkpoint was written yet, start again"
        raise DiskError(f"{said} {rest} with: {_resume(command)}") from error
    finally:
        # where the disk is full the events cannot be written out either; the reason is being told already
        with contextlib.suppress(OSError):
            run_logs.close()
    if not complete:
        say(f"Stopped at step {state.step:,}; the checkpoint is written. Go on with: {_resume(command)}")
        raise SystemExit(130)
    return _finish(config, model, state, checkpoints, command, say)


def _finish(config, model, state, checkpoints, command, say) -> Path:
    """Writes the preset of the best or the last epoch and says what to do with it."""
    folder = Path(config.output) / "preset"
    is_best = config.preset.weights == "best"
    shown = state.best() if is_best else state.history[-1]
    if is_best:
        # a checkpoint holds the seeds of dropout too, which are no weights
        values = dict(zip(map(id, model.variables), read(checkpoints.best).model, strict=True))
        weights = [values[id(weight)] for weight in model.weights]
    else:
        with ema.averaged_weights(model):
            weights = model.get_weights()
    keras.config.set_dtype_policy("float32")
    arguments = model.get_config()
    if config.preset.image_size is not None:
        arguments["image_size"] = config.preset.image_size
    final = type(model).from_config(arguments)
    final.set_weights(weights)
    notes = {key: shown[key] for key in shown if key in ("epoch", "step") or key.startswith("val_")}
    final.save_to_preset(folder, training={"command": command, "seed": config.seed, config.preset.weights: notes})
    if config.preset.litert:
        _add_litert(folder, say)
    say(
        f"Done in {clock(state.seconds)}, {peak_memory_mb():,.0f} MB at most. {'Best' if is_best else 'Last'}: epoch "
        f"{shown['epoch']} with MAE {shown['val_mae']:.4f}, F {shown['val_f']:.4f} on the validation images.\n"
        f"The preset is in {folder}. Use it with: "
        f"keras-recnet {TASKS[config.task].USE} -o OUT --preset {shlex.quote(str(folder))}"
    )
    return folder


def _add_litert(folder: Path, say) -> None:
    if keras.backend.backend() != "tensorflow":
        say("No LiteRT file was added to the preset: the conversion needs the TensorFlow backend.")
        return
    from keras_recnet.export.litert import converting

    converting.add_to_preset(folder)


def _checkpoint_to_resume(config, checkpoints, command, resume) -> Checkpoint | None:
    folder = config.output
    if not resume:
        if checkpoints.paths() or checkpoints.best.exists():
            raise ConfigError(
                f"{folder}: holds a run already. Go on with it: {_resume(command)}; or start another one beside it: "
                f"--set output=FOLDER"
            )
        return None
    found = checkpoints.newest()
    if found:
        before = as_of_now(found.state["config"])
        if changed := differences(before, config.fixed()):
            raise ConfigError(
                f"{folder}: this run was started with another configuration, so it cannot be resumed with this one. "
                f"Differences (then → now): {'; '.join(changed)}. Undo them, or start a new run with "
                f"--set output=FOLDER."
            )
    return found


def _resume(command: str) -> str:
    return f"{command} --resume"


def _write_config(config: Config, folder: Path) -> None:
    """The configuration with all defaults filled in, as a record of what ran."""
    import yaml

    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _make_deterministic() -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _jit_compile():
    # XLA takes minutes over the gradients of depthwise convolutions on a CPU and gains nothing
    return False if keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu") else "auto"


def describe_device() -> str:
    """One sentence on which device will compute."""
    backend = keras.backend.backend()
    gpus = keras.distribution.list_devices("gpu")
    if gpus:
        return f"Training on {', '.join(gpus)} with the {backend} backend."
    return f"Training on the CPU ({os.cpu_count()} cores) with the {backend} backend; no GPU was found."
