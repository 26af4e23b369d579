"""Where the measurements of a trial read, and which tokens they name there: known before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from steer.errors import SteerError
from steer.experiment.spec import AtPosition, Measurement
from steer.experiment.trial import Trial
from steer.intervention.positions import Positions, resolve
from steer.measurement.measure import needs, targets
from steer.model.tokens import Encoded

Pieces = Callable[[str], tuple[int, ...]]


class MeasurementPositionError(SteerError):
    """A measurement that reads where no logits are kept."""

    exit_code = 2


@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt's token ids, what is measured there, and positions by the text of a measurement's `position`.

    One for all trials that measure the same on a prompt; it is equal to itself alone.
    """

    ids: tuple[int, ...]
    measurements: Mapping[str, Measurement]
    places: Mapping[str, Positions]

    def of(self, measurement: Measurement) -> Positions | None:
        """Where a measurement reads; None for what is measured on completions."""
        if not isinstance(measurement, AtPosition) or needs(measurement).completion:
            return None
        return self.places[repr(measurement.position)]


def reading_of(trial: Trial, encoded: Encoded) -> Reading:
    """Where a trial's measurements read; MeasurementPositionError, PositionError."""
    found = {}
    for name, measurement in trial.measurements.items():
        if isinstance(measurement, AtPosition) and not needs(measurement).completion:
            positions = resolve(measurement.position, encoded, trial.prompt)
            if needs(measurement).logits and (positions.beyond_prompt or not positions.prompt):
                raise MeasurementPositionError(
                    f"measurement {name}: position {measurement.position!r} of prompt {trial.prompt.id} is not in"
                    f" the prompt (0 to {len(encoded.ids) - 1}); over generated text use kl with `over: completion`"
                )
            found[repr(measurement.position)] = positions
    return Reading(encoded.ids, trial.measurements, found)


def named_tokens(reading: Reading, pieces: Pieces) -> dict[int, list[int]]:
    """The positions whose logit shifts are recorded (those measured, and the last), with the tokens named there."""
    named: dict[int, list[int]] = {len(reading.ids) - 1: []}
    for measurement in reading.measurements.values():
        positions = reading.of(measurement) if needs(measurement).logits else None
        for position in () if positions is None else positions.prompt:
            there = named.setdefault(position, [])
            there += [token for token in targets(measurement, pieces) if token not in there]
    return named
