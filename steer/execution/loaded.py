"""Models and transcoders in memory, each loaded once for all the experiments that use it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from steer.experiment.load import Experiment
from steer.experiment.spec import Transcoder
from steer.experiment.trial import Plan
from steer.model.language_model import LanguageModel
from steer.transcoder.transcoder import Transcoders


class Weights(NamedTuple):
    """What two experiments have to agree on to share a model; attention that shows its patterns is another model."""

    id: str
    revision: str | None
    dtype: str
    device: str
    patterns: bool


def weights(experiment: Experiment, plan: Plan) -> Weights:
    """The model that an experiment runs on."""
    model = experiment.spec.model
    patterns = any(trial.setup.freeze_attention for trial in plan.trials)
    return Weights(model.id, model.revision, model.dtype, model.device, patterns)


@dataclass
class Loaded:
    """What is in memory. An experiment leaves no trace in it: hooks come off with every batch, also after an error."""

    models: dict[Weights, LanguageModel] = field(default_factory=dict)
    opened: dict[tuple[Path, Transcoder, Weights], Transcoders] = field(default_factory=dict)

    def model(self, wanted: Weights) -> LanguageModel:
        """The model, from memory or from its files. ModelError."""
        if wanted not in self.models:
            self.models[wanted] = LanguageModel.load(
                wanted.id, wanted.revision, wanted.dtype, wanted.device, patterns=wanted.patterns
            )
        return self.models[wanted]

    def transcoders(self, folder: Path, stated: Transcoder, wanted: Weights) -> Transcoders:
        """The transcoders in a folder, read as the file states, on the model's device. TranscoderError."""
        key = folder, stated, wanted
        if key not in self.opened:
            model = self.model(wanted)
            points = stated.format, stated.reads, stated.writes
            self.opened[key] = Transcoders.open(folder, model.device, *points, model=model.folder)
        return self.opened[key]

    def keep(self, needed: Container[Weights]) -> None:
        """Let go of the models that no later experiment uses."""
        self.models = {key: model for key, model in self.models.items() if key in needed}
        self.opened = {key: opened for key, opened in self.opened.items() if key[-1] in needed}
