"""The schema of an experiment file: field names are YAML keys, every class is frozen, unknown keys are errors.

A value that may be swept or differ from row to row is `Number`, `Integer`, `Flag`, ...: the thing itself or a
reference `$name` (a sweep axis, a column, or in an expectation's `where` a `choose` name). The plan replaces the
references, so behind it `Clamp.value` is one number.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from steer.experiment.feature_ids import FEATURE_PATTERN

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
NAME_PATTERN = rf"^{NAME}$"
REF_PATTERN = rf"^-?\${NAME}$"
SLICE_PATTERN = r"^(-?[0-9]{1,9})?:(-?[0-9]{1,9})?$"
NAMED_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
DEVICE_PATTERN = r"^(auto|cpu|mps|(cuda|xpu)(:[0-9]{1,3})?)$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Ref = Annotated[str, StringConstraints(pattern=REF_PATTERN)]
Number = float | Ref
Integer = int | Ref
Flag = bool | Ref
Slice = Annotated[str, StringConstraints(pattern=SLICE_PATTERN)]
FeatureId = Annotated[str, StringConstraints(pattern=FEATURE_PATTERN)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Scalar = str | int | float | bool


class Spec(BaseModel):
    """A mapping of the experiment file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --- positions ------------------------------------------------------------------------------------------------


class Selector(Spec):
    """Where something stands in the rendered prompt; without `which` there must be exactly one match."""

    which: Literal["first", "last", "all"] | int | Ref | None = None
    offset: Integer = 0


class TokenSelector(Selector):
    """The positions of one token, written with its leading space."""

    token: str


class TextSelector(Selector):
    """The tokens that cover a piece of text."""

    text: str


class RegexSelector(Selector):
    """The tokens that cover a match."""

    regex: str


class ColumnSelector(Selector):
    """The tokens where the template put a column."""

    column: str


SELECTOR_KEYS = ("token", "text", "regex", "column")


def _selector_key(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return next((f"<{key}>" for key in SELECTOR_KEYS if key in keys), None)


def _position_kind(value: Any) -> str:
    return "<selector>" if isinstance(value, dict | Selector) else "<word>"


def _positions_kind(value: Any) -> str:
    return "<list>" if isinstance(value, list | tuple) else "<one>"


# Unions are told apart by what is written, so that a typo is one problem and not one for every member. Tags stand in
# angle brackets: they are part of pydantic's error locations and must not look like keys.
AnySelector = Annotated[
    Annotated[TokenSelector, Tag("<token>")]
    | Annotated[TextSelector, Tag("<text>")]
    | Annotated[RegexSelector, Tag("<regex>")]
    | Annotated[ColumnSelector, Tag("<column>")],
    Discriminator(_selector_key),
]
PositionWord = Literal["all", "prompt", "generated", "last"] | int | Slice | Ref
Position = Annotated[
    Annotated[PositionWord, Tag("<word>")] | Annotated[AnySelector, Tag("<selector>")], Discriminator(_position_kind)
]
Positions = Annotated[
    Annotated[Position, Tag("<one>")] | Annotated[tuple[Position, ...], Tag("<list>")], Discriminator(_positions_kind)
]


# --- what it runs on ------------------------------------------------------------------------------------------


class Model(Spec):
    """A causal language model: `pocket`, a folder, or a Hub id."""

    id: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = Field(default="cpu", pattern=DEVICE_PATTERN)


TranscoderFormat = Literal[
    "circuit-tracer",
    "circuit-tracer-clt",
    "gemma-scope",
    "gemma-scope-2",
    "saelens",
    "sparsify",
    "sparsify-2024",
    "dictionary-learning",
    "openai",
    "dunefsky",
]


HookPoint = Literal[
    "mlp.hook_in",
    "ln2.hook_normalized",
    "hook_resid_mid",
    "hook_resid_pre",
    "hook_resid_post",
    "hook_attn_out",
    "attn.hook_z",
    "hook_mlp_out",
    "mlp.hook_out",
]
"""Where in a block transcoders and SAEs read and write."""


class Transcoder(Spec):
    """A set of transcoders, one per layer: `pocket`, a folder, a Hub id, or a release's name (`steer transcoders`).

    `format` is recognised from the files where it is not said; `reads` and `writes` are hook points of a block, for
    layouts whose files do not name them. `allow_failed_gate: true` runs a pair that failed `steer gate`.
    """

    id: str
    revision: str | None = None
    format: TranscoderFormat | None = None
    reads: HookPoint | None = None
    writes: HookPoint | None = None
    allow_failed_gate: bool | None = None  # not False, so that files that do not say it keep their hash


class Member(Spec):
    """One feature of a group; `weight` multiplies its value, `positions` count when the intervention has none."""

    layer: int = Field(ge=0, lt=10**9)
    index: int = Field(ge=0, lt=10**9)
    label: str | None = None
    weight: float = 1.0
    positions: Positions | None = None
    max_act: float | None = Field(default=None, gt=0)

    @property
    def id(self) -> str:
        """The feature as it is written everywhere: `layer/index`."""
        return f"{self.layer}/{self.index}"


class FeatureFile(Spec):
    """Groups kept in a file of their own, as `steer discover` writes them."""

    file: str


def _feature_kind(value: Any) -> str:
    match value:
        case list() | tuple():
            return "<list>"
        case FeatureFile():
            return "<file>"
        case dict():
            return "<file>" if "file" in value else "<member>"
        case _:
            return "<member>" if isinstance(value, Member) else "<id>"


Feature = Annotated[
    Annotated[FeatureId, Tag("<id>")] | Annotated[Member, Tag("<member>")],
    Discriminator(lambda value: "<member>" if isinstance(value, dict | Member) else "<id>"),
]
InlineGroup = Annotated[
    Annotated[FeatureId, Tag("<id>")]
    | Annotated[Member, Tag("<member>")]
    | Annotated[tuple[Feature, ...], Tag("<list>"), Field(min_length=1)],
    Discriminator(_feature_kind),
]
FeatureGroup = Annotated[
    Annotated[FeatureId, Tag("<id>")]
    | Annotated[Member, Tag("<member>")]
    | Annotated[FeatureFile, Tag("<file>")]
    | Annotated[tuple[Feature, ...], Tag("<list>"), Field(min_length=1)],
    Discriminator(_feature_kind),
]
FeatureUse = str | tuple[str, ...]
"""What an intervention or measurement names: a group, a `layer/index`, a `$name`, or a list of these."""


class PromptSet(Spec):
    """Where the prompts of a direction come from."""

    file: str


class Direction(Spec):
    """The difference of mean residual streams between two prompt sets, at `hook_resid_post` of a layer."""

    type: Literal["mean_difference"] = "mean_difference"
    positive: PromptSet
    negative: PromptSet
    layer: int = Field(ge=0)
    position: Positions = "last"


# --- prompts --------------------------------------------------------------------------------------------------


class Message(Spec):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class PromptEntry(Spec):
    """One prompt, or many from a file or grid; every field that is not named here is a column."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    template: str | None = None
    file: str | None = None
    grid: dict[Name, str | tuple[str, ...]] | None = None
    prefix: str | None = None
    columns: dict[Name, str] = {}


class Generation(Spec):
    """How completions are decoded; temperature 0 is greedy."""

    max_new_tokens: int = Field(ge=1, le=1_000_000)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    stop: tuple[str, ...] | str = ()


# --- interventions --------------------------------------------------------------------------------------------

Unit = Literal["raw", "max_act", "own_act", "donor_act"]
SwapUnit = Literal["raw", "max_act", "own_act", "source_act", "donor_act"]


class DonorPrompt(Spec):
    """Another prompt of the file that lends its activation (the largest, if several positions are read)."""

    prompt: str
    position: Positions = "last"


class DonorText(Spec):
    """A text that lends its activation (the largest, if several positions are read)."""

    text: str
    position: Positions = "last"


def _donor_key(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return next((f"<{key}>" for key in ("prompt", "text") if key in keys), None)


Donor = Annotated[
    Annotated[DonorPrompt, Tag("<prompt>")] | Annotated[DonorText, Tag("<text>")], Discriminator(_donor_key)
]


class InterventionBase(Spec):
    """What every intervention may say: where it acts, and which layers of its groups it keeps."""

    positions: Positions | None = None
    layers: tuple[Integer, Integer] | None = None


class Clamp(InterventionBase):
    """Hold a feature at an activation."""

    op: Literal["clamp"]
    feature: FeatureUse
    value: Number
    unit: Unit = "raw"
    donor: Donor | None = None


class Scale(InterventionBase):
    """Multiply a feature's own activation; 1 changes nothing, -2 is "inhibit at -2x"."""

    op: Literal["scale"]
    feature: FeatureUse
    factor: Number


class Add(InterventionBase):
    """Own activation plus a value."""

    op: Literal["add"]
    feature: FeatureUse
    value: Number
    unit: Unit = "raw"
    donor: Donor | None = None


class Ablate(InterventionBase):
    """Take a feature away: to zero, or to its mean over the reference text."""

    op: Literal["ablate"]
    feature: FeatureUse
    to: Literal["zero", "mean"] = "zero"


class Swap(InterventionBase):
    """One group off (or at `from_factor` times its own activation), another on."""

    op: Literal["swap"]
    from_: FeatureUse = Field(alias="from")
    to: FeatureUse
    from_factor: Number = 0.0
    value: Number = 1.0
    unit: SwapUnit = "source_act"
    donor: Donor | None = None

    model_config = ConfigDict(populate_by_name=True)


class DirectionFile(Spec):
    """A direction stored as the only tensor of a safetensors file."""

    file: str


class Steer(InterventionBase):
    """Residual stream plus coefficient times direction, at `hook_resid_post`."""

    op: Literal["steer"]
    direction: str | DirectionFile
    coefficient: Number
    unit: Literal["raw", "residual_norm"] = "raw"
    layer: Integer | None = None


Intervention = Annotated[Clamp | Scale | Add | Ablate | Swap | Steer, Field(discriminator="op")]

# --- controls -------------------------------------------------------------------------------------------------

Replace = Literal["from", "to", "all"] | tuple[str, ...]
Where = dict[str, Scalar | tuple[Scalar, ...]]


class ControlBase(Spec):
    """What every control may say: at which sweep points and on which prompts it runs."""

    where: Where = {}


class RandomFeatures(ControlBase):
    """The target's change along other features' decoder vectors; with `active`, the op itself on features that fire."""

    type: Literal["random_features"]
    n: int = Field(default=19, ge=1, le=10_000)
    match: tuple[Literal["layer", "density", "decoder_norm", "active"], ...] = ("layer", "density", "decoder_norm")
    seed: Seed = 0
    replace: Replace = "all"


class RandomDirection(ControlBase):
    """The target's own change along one Gaussian direction per draw and layer."""

    type: Literal["random_direction"]
    n: int = Field(default=5, ge=1, le=10_000)
    seed: Seed = 0
    replace: Replace = "all"


class OtherPositions(ControlBase):
    """The same edit elsewhere."""

    type: Literal["other_positions"]
    positions: Positions


class Identity(ControlBase):
    """`scale 1` through the same code: must change nothing."""

    type: Literal["identity"]


class InhibitOnly(ControlBase):
    """A swap without its `to` half."""

    type: Literal["inhibit_only"]


class InjectOnly(ControlBase):
    """A swap without its `from` half."""

    type: Literal["inject_only"]


Control = Annotated[
    RandomFeatures | RandomDirection | OtherPositions | Identity | InhibitOnly | InjectOnly,
    Field(discriminator="type"),
]

# --- conditions -----------------------------------------------------------------------------------------------


class Freeze(Spec):
    """What is held at the baseline's values over the prompt."""

    attention: Flag = False
    norms: Flag = False


class Constrain(Spec):
    """Layers (inclusive) whose MLP outputs are the baseline's plus the edits, over the prompt; b < a is none."""

    layers: tuple[Integer, Integer]


class Condition(Spec):
    """A named list of interventions applied together."""

    interventions: tuple[Intervention, ...] = Field(min_length=1)
    controls: tuple[Control, ...] = ()
    freeze: Freeze = Freeze()
    constrain: Constrain | None = None
    where: Where = {}
    allow_silent: bool = False


class Each(Spec):
    """A sweep over the members of a group, one by one."""

    each: str


Axis = str | Each | tuple[Any, ...]

# --- measurements ---------------------------------------------------------------------------------------------


class MeasurementBase(Spec):
    """What every measurement may say: for which prompts it is taken."""

    where: Where = {}


class AtPosition(MeasurementBase):
    """Read from the logits output at a position (the mean, if several)."""

    position: Positions = "last"


class TokenProb(AtPosition):
    """Probability of the target (the sum, if several tokens)."""

    type: Literal["token_prob"]
    target: str | tuple[str, ...]


class TokenLogprob(AtPosition):
    """Log probability of the target."""

    type: Literal["token_logprob"]
    target: str | tuple[str, ...]


class TokenRank(AtPosition):
    """Number of tokens with a larger logit than the (best) target."""

    type: Literal["token_rank"]
    target: str | tuple[str, ...]


class IsTop(AtPosition):
    """1 where a target is the likeliest token."""

    type: Literal["is_top"]
    target: str | tuple[str, ...]


class TopK(AtPosition):
    """1 where a target is among the k likeliest tokens."""

    type: Literal["top_k"]
    target: str | tuple[str, ...]
    k: int = Field(default=5, ge=1)


class LogitDiff(AtPosition):
    """Mean logit over the targets minus mean logit over the foils."""

    type: Literal["logit_diff"]
    target: str | tuple[str, ...]
    foil: str | tuple[str, ...]


class Kl(AtPosition):
    """KL(intervened || baseline), in nats; over the baseline's completion the mean per token, teacher-forced."""

    type: Literal["kl"]
    over: Literal["position", "completion"] = "position"


class Entropy(AtPosition):
    """Entropy of the next-token distribution, in nats."""

    type: Literal["entropy"]


class FeatureActivation(AtPosition):
    """Mean activation of a watched feature or group."""

    type: Literal["feature_activation"]
    feature: FeatureUse


class GroupActivation(AtPosition):
    """Sum of the activations of a watched group."""

    type: Literal["group_activation"]
    feature: FeatureUse


class Contains(MeasurementBase):
    """1 where the completion contains one of the words."""

    type: Literal["contains"]
    words: str | tuple[str, ...]
    ignore_case: bool = True


class Regex(MeasurementBase):
    """1 where the pattern is found in the completion."""

    type: Literal["regex"]
    pattern: str


class EndsWith(MeasurementBase):
    """1 where the completion, without closing punctuation and space, ends with one of the words."""

    type: Literal["ends_with"]
    words: str | tuple[str, ...]


class LastWord(MeasurementBase):
    """1 where the last word of a line of the completion is one of the words."""

    type: Literal["last_word"]
    words: str | tuple[str, ...]
    line: int = 0


class Repetition(MeasurementBase):
    """1 - distinct n-grams / n-grams of the completion's tokens."""

    type: Literal["repetition"]
    n: int = Field(default=3, ge=1)


class Distinct(MeasurementBase):
    """Distinct n-grams / n-grams of the completion's tokens."""

    type: Literal["distinct"]
    n: int = Field(default=3, ge=1)


class Perplexity(MeasurementBase):
    """exp of the mean negative log-likelihood of the completion under the unsteered model."""

    type: Literal["perplexity"]


class EditDistance(MeasurementBase):
    """Levenshtein distance in tokens to the baseline's completion, over the longer length."""

    type: Literal["edit_distance"]


class FirstDivergence(MeasurementBase):
    """Index of the first token that differs from the baseline's completion."""

    type: Literal["first_divergence"]


class Length(MeasurementBase):
    """Tokens of the completion."""

    type: Literal["length"]


class StopRate(MeasurementBase):
    """1 where the completion ended by itself."""

    type: Literal["stop_rate"]


Measurement = Annotated[
    TokenProb
    | TokenLogprob
    | TokenRank
    | IsTop
    | TopK
    | LogitDiff
    | Kl
    | Entropy
    | FeatureActivation
    | GroupActivation
    | Contains
    | Regex
    | EndsWith
    | LastWord
    | Repetition
    | Distinct
    | Perplexity
    | EditDistance
    | FirstDivergence
    | Length
    | StopRate,
    Field(discriminator="type"),
]

# --- verdicts -------------------------------------------------------------------------------------------------


class Limit(Spec):
    """Bounds on the mean of a measurement."""

    min: float | None = None
    max: float | None = None


class Choose(Spec):
    """A sweep value chosen on some prompts, to be judged on others."""

    condition: str
    axis: str
    maximize: str | None = None
    minimize: str | None = None
    limits: dict[str, Limit] = {}
    where: Where = {}


class Expectation(Spec):
    """A declared bound on a measurement; its combinations are checked by the loader."""

    id: str = Field(pattern=NAMED_PATTERN)
    measurement: str
    where: Where = {}
    of: Literal["intervened", "effect", "baseline", "ratio"] = "intervened"
    min: float | None = None
    max: float | None = None
    versus: str | Where | None = None
    min_diff: float | None = None
    max_diff: float | None = None
    over: str | None = None
    trend: Literal["increasing", "decreasing"] | None = None
    slack: float = Field(default=0.0, ge=0)
    statistic: Literal["crossover", "peak"] | None = None
    confidence: float | None = Field(default=None, gt=0, lt=1)
    each: str | None = None
    snapshot: bool = False
    atol: float | None = Field(default=None, ge=0)
    rtol: float | None = Field(default=None, ge=0)


# --- the file -------------------------------------------------------------------------------------------------


class ExperimentSpec(Spec):
    """One experiment file: one question."""

    version: int = Field(ge=1, le=1)
    name: str = Field(pattern=NAMED_PATTERN)
    model: Model
    transcoder: Transcoder
    features: dict[Name, FeatureGroup] = {}
    directions: dict[Name, Direction] = {}
    prompts: tuple[PromptEntry, ...] = Field(min_length=1)
    generation: Generation | None = None
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    sweep: dict[Name, Axis] = {}
    conditions: dict[Name, Condition] = {}
    measurements: dict[Name, Measurement] = {}
    choose: dict[Name, Choose] = {}
    expectations: tuple[Expectation, ...] = ()
    group_by: tuple[str, ...] = ()
    needs: tuple[Literal["hub", "cuda"], ...] = ()
    extends: str | None = None
    metadata: Any = None
