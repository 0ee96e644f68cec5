"""The part of a training run that needs Keras: from checked files to a preset folder."""

import contextlib
import itertools
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_recnet import optimizers
from keras_recnet.errors import ConfigError, DataError, DiskError, RecNetError
from keras_recnet.files import atomic_path, disk_errors
from keras_recnet.training import ema, logs, sample_sheet
from keras_recnet.training.checkpoints import Checkpoint, CheckpointFolder, check_disk, read, training_variables
from keras_recnet.training.config.loading import Config
from keras_recnet.training.config.schema import OptimizerConfig
from keras_recnet.training.data import Data
from keras_recnet.training.distribution import DataParallel, SingleDevice
from keras_recnet.training.loop import Loop, State, peak_memory_mb, total_steps
from keras_recnet.training.preparation import Prepared
from keras_recnet.training.processes import Processes
from keras_recnet.training.progress import Progress, format_duration
from keras_recnet.training.task import TrainingTask, warmup_steps

LOG_BYTES = 50_000_000  # space for tables, events, curves and sample sheets


def preview(config: Config, prepared: Prepared, count: int, stream) -> Path:
    """Write contact sheets of the first `count` training batches, after the checks of `run.preview`."""
    folder = Path(config.output) / "preview"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = prepared.task.predict_targets(prepared.files, lambda text: print(text, file=stream, flush=True))
        keras.utils.set_random_seed(config.seed)
        batches = prepared.task.preview(files, prepared.task.build_model())
        for number, rows in enumerate(itertools.islice(batches, count), start=1):
            sample_sheet.draw_preview(rows, folder / f"batch-{number:03d}.png")
    print(f"{count} training batches drawn: {folder}", file=stream, flush=True)
    return folder


def run(config: Config, prepared: Prepared, command: str, processes: Processes, stream) -> Path:
    """Train, after the checks of `keras_recnet.training.run.train`."""
    policy = keras.config.dtype_policy()
    # a process may train several networks: free the earlier ones, and start from the same state as a new process
    keras.utils.clear_session()
    try:
        return _run(config, prepared, command, processes, stream)
    finally:
        keras.config.set_dtype_policy(policy)


def _run(config, prepared, command, processes, stream):
    def log(text: str):
        print(text, file=stream, flush=True)

    folder, resume_command = Path(config.output), f"{command} --resume"
    checkpoints, checkpoint, task = prepared.checkpoints, prepared.checkpoint, prepared.task
    distribution = SingleDevice()
    if config.distribution == "data_parallel":
        if processes.count > 1 and getattr(config.loss, "co_perceptual", None) is not None:
            raise ConfigError(
                "loss.co_perceptual: works in a single process only, because its network is not replicated. Use --set "
                "loss.co_perceptual=null"
            )
        # all processes have finished the checks when they are connected: from here on, process 0 may write
        distribution = DataParallel(processes, config.batch_size)
    if distribution.is_main:
        checkpoints.remove_unfinished()

    # before the seed is set and in float32, as in prediction; process 0 writes the maps
    with distribution.main_first() if config.teacher is not None else contextlib.nullcontext():
        files = task.predict_targets(prepared.files, log)
    keras.config.set_dtype_policy(config.precision)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        _make_deterministic()
    model = task.build_model()
    if config.preset.image_size is not None:
        _at_preset_size(config, model)  # an error now, not after training
    _check_free_space(config, model, checkpoints)
    log(describe_device(processes.count))
    # process 0 writes the files of cached features
    with distribution.main_first() if config.data.cache == "features" else contextlib.nullcontext():
        data = task.build_data(files, model, log)
    _check_data(folder, data, checkpoint)
    _shard(data, processes)
    steps = total_steps(config, data.training.steps_per_epoch)
    if checkpoint is None and distribution.is_main:
        task.initialize(model, data, log)
    local_model = model
    model, train_model, eval_model = _compile(task, model, steps, distribution)

    state = State(config=config.fixed(), data=data.fingerprint)
    if checkpoint:
        checkpoint.restore(model, training_variables(model, train_model))
        state = State.from_dict(checkpoint.state)
    if not distribution.same(state.step):
        raise DataError(
            f"{folder}: the processes have different checkpoints here. Use a folder that all of them share: --set "
            f"output=FOLDER"
        )
    if checkpoint:
        log(f"Resuming from {checkpoint.path}: epoch {state.epoch + 1}, {state.step:,} of {steps:,} steps done")
    parameters = model.count_params() / 1e6
    log(f"{data.counts}; {steps:,} steps of {config.batch_size} {task.unit}; {parameters:.2f} M parameters")
    log(f"Output folder: {folder}")
    run_logs = logs.NoLogs()
    if distribution.is_main:
        _write_config(config, folder)
        run_logs = logs.Logs(folder, state.step, config.tensorboard)
    progress = Progress(steps, config.batch_size, state.step, stream=stream, unit=task.unit)
    loop = Loop(config, model, train_model, eval_model, data, state, checkpoints, run_logs, progress, distribution)
    try:
        finished = _run_loop(loop, resume_command)
    finally:
        data.close()  # several runs of a study share a process
    if not finished:
        log(f"Stopped at step {state.step:,}; checkpoint written. Resume with: {resume_command}")
        raise SystemExit(130)
    preset = folder / "preset"
    with distribution.eval_weights(model):
        last_weights = local_model.get_weights()
    if distribution.is_main:
        _write_preset(config, local_model, last_weights, state, checkpoints, command, log)
        log(f"Use it with: keras-recnet {task.usage} -o OUT --preset {shlex.quote(str(preset))}")
    distribution.wait()
    return preset


def _shard(data: Data, processes: Processes) -> None:
    """Let each process read its part of the training data and, if there are enough batches, of the validation data."""
    data.training.shard = processes.shard
    if data.validation is not None and data.validation.steps_per_epoch >= processes.count:
        data.validation.shard = processes.shard


def _check_free_space(config: Config, model: keras.Model, checkpoints: CheckpointFolder) -> None:
    slots = {"adamw": 2, "sgd": 1}[config.optimizer.name] + (config.ema is not None)
    check_disk(config.output, checkpoints.bytes_needed(model, slots) - checkpoints.bytes_used() + LOG_BYTES)


def _check_data(folder: Path, data: Data, checkpoint: Checkpoint | None) -> None:
    if checkpoint and checkpoint.state["data"] != data.fingerprint:
        raise DataError(
            f"{folder}: the training or validation images have changed since this run was started. Restore them, or "
            f"start a new run with --set output=FOLDER."
        )


def _compile(
    task: TrainingTask, local_model: keras.Model, steps: int, distribution: SingleDevice
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Compile the model, and return the whole model and the models for training and for validation."""
    with distribution.scope():
        model = distribution.replicate(local_model)
        loss, train_model = task.loss(model), task.train_model(model)
        train_model.compile(build_optimizer(task.config, model, steps), loss)
        train_model.optimizer.build(train_model.trainable_variables)
        if train_model is not model:
            model.compile(train_model.optimizer, loss)
    # validation needs no other process
    eval_model, scores = task.eval_model(local_model)
    eval_model.compile(None, loss, **scores)
    return model, train_model, eval_model


def build_optimizer(config: Config, model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """Build the optimizer for `steps` steps, with a separate learning rate for the backbone if set."""
    options = config.optimizer
    average = {} if config.ema is None else {"use_ema": True, "ema_momentum": config.ema}

    def build(rate: float):
        schedule = _schedule(options, rate, steps)
        if options.name == "sgd":
            decay = options.weight_decay or None
            return ema.SGD(
                schedule, momentum=options.momentum, weight_decay=decay, global_clipnorm=options.clip, **average
            )
        return ema.AdamW(schedule, weight_decay=options.weight_decay, global_clipnorm=options.clip, **average)

    if options.backbone_learning_rate is None or not model.backbone.trainable_variables:
        return build(options.learning_rate)
    return optimizers.two_rates(model, build(options.backbone_learning_rate), build(options.learning_rate))


def _schedule(options: OptimizerConfig, rate: float, steps: int):
    warmup = warmup_steps(options, steps)
    if options.schedule == "cosine":
        return optimizers.warmup_cosine(rate, steps, warmup)
    if options.schedule == "poly":
        return keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=0, power=options.power)
    return rate


def _run_loop(loop: Loop, resume_command: str) -> bool:
    """Run the loop; on a full disk, report which checkpoint to resume from."""
    try:
        with disk_errors(loop.folder), loop.distribution.lost_process():
            return loop.run()
    except DiskError as error:
        paths = loop.checkpoints.paths()
        if paths:
            advice = f"{paths[-1].name} is complete; resume with: {resume_command}"
        else:
            advice = f"No checkpoint was written; start again with: {resume_command.removesuffix(' --resume')}"
        raise DiskError(f"{error} {advice}") from error
    finally:
        with contextlib.suppress(OSError):  # a full disk has been reported already
            loop.logs.close()


def _write_preset(
    config: Config,
    model: keras.Model,
    last_weights: list[np.ndarray],
    state: State,
    checkpoints: CheckpointFolder,
    command: str,
    log: Callable[[str], object],
) -> None:
    """Write the preset with the weights of the best or of the last epoch."""
    folder = Path(config.output) / "preset"
    if config.preset.weights == "best":
        row = state.best()
        if row is None:
            raise RecNetError(
                f"{config.output}: the validation error is not finite in any epoch, so there is no best epoch. Use "
                f"--set precision=float32 and --set output=FOLDER."
            )
        # the variables in a checkpoint include seeds of dropout, which are not weights
        values = dict(zip(map(id, model.variables), read(checkpoints.best).model, strict=True))
        weights = [values[id(weight)] for weight in model.weights]
    else:
        row, weights = state.history[-1], last_weights
    keras.config.set_dtype_policy("float32")
    final = _at_preset_size(config, model)
    final.set_weights(weights)
    scores = {key: row[key] for key in row if key in ("epoch", "step") or key.startswith("val_")}
    final.save_to_preset(folder, training={"command": command, "seed": config.seed, config.preset.weights: scores})
    if config.preset.litert:
        _add_litert(folder, log)
    validation = f", validation MAE {row['val_mae']:.4f}, F {row['val_f']:.4f}" if "val_mae" in row else ""
    log(
        f"Finished in {format_duration(state.seconds)} with a peak memory of {peak_memory_mb():,.0f} MB\n"
        f"{config.preset.weights.capitalize()} epoch: {row['epoch']}{validation}\n"
        f"Preset: {folder}"
    )


def _at_preset_size(config: Config, model: keras.Model) -> keras.Model:
    """Return a new model with the image size of the preset, to which the weights of `model` fit.

    Raises:
        ConfigError: if the network cannot have this size, or its weights depend on the size.
    """
    arguments, size = model.get_config(), config.preset.image_size
    if size is not None:
        arguments["image_size"] = size
    try:
        final = type(model).from_config(arguments)
    except ValueError as error:
        raise ConfigError(f"preset.image_size: {error}") from error
    if [weight.shape for weight in final.weights] != [weight.shape for weight in model.weights]:
        raise ConfigError(
            f"preset.image_size: the weights of this network fit only the size of model.image_size. Use --set "
            f"preset.image_size=null. Received: {size!r}"
        )
    return final


def _add_litert(folder: Path, log: Callable[[str], object]) -> None:
    if keras.backend.backend() != "tensorflow":
        log("The preset has no LiteRT file, because the conversion needs the TensorFlow backend.")
        return
    from keras_recnet.export import exporting

    exporting.add_to_preset(folder)


def _write_config(config: Config, folder: Path) -> None:
    """Record the configuration with all defaults."""
    import yaml

    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _make_deterministic() -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def describe_device(processes: int = 1) -> str:
    """Describe the devices and the backend used for training."""
    backend = keras.backend.backend()
    others = f", in {processes} processes" if processes > 1 else ""
    gpus = _gpus()
    if gpus:
        return f"Training on {', '.join(gpus)} with the {backend} backend{others}"
    return f"Training on the CPU ({os.cpu_count()} cores) with the {backend} backend{others}; no GPU was found"


def _gpus() -> list[str]:
    if keras.backend.backend() == "torch":  # has no `keras.distribution`
        import torch

        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    # `list_devices("gpu")` is an error on JAX without a GPU
    return [device for device in keras.distribution.list_devices() if device.startswith("gpu")]
