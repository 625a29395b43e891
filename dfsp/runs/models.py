"""The plan of a batch and the record of a run, as models; their JSON Schemas come from here.

pydantic takes a while to import: only what handles plans and records imports this module.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Row = Annotated[dict[str, JsonValue], Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        validate_by_name=False,
        json_schema_serialization_defaults_required=True,
    )


# ---------------------------------------------------------------- the plan


class Entry(_Model):
    """One notebook of a plan and the parameters of its runs."""

    notebook: str
    parameters: dict[str, JsonValue] | None = Field(
        default=None,
        description="By name: a list is an axis of the matrix, anything else holds in every run.",
    )
    exclude: list[Row] | None = Field(
        default=None, description="Combinations of the matrix that have these values are left out."
    )
    include: list[Row] | None = Field(
        default=None,
        description="Values added to the combinations they do not contradict, else a run more.",
    )


class Plan(_Model):
    """The runs of a batch."""

    notebooks: list[Entry] = Field(min_length=1)


# ---------------------------------------------------------------- the record


class Statistics(_Model):
    """Of one quantity; null where it does not exist, or is known only as a bound (dfsp.fit/1)."""

    mean: float | None
    sd: float | None
    q2_5: float | None = Field(alias="q2.5")
    q25: float | None
    q50: float | None
    q75: float | None
    q97_5: float | None = Field(alias="q97.5")


class Check(_Model):
    """A verdict; null for "cannot tell"."""

    name: str
    passed: bool | None
    value: float | None
    limit: float | None
    says: str


class Power(_Model):
    """What raising a density to a power does to a quantity; see `dfsp.engine.powers`."""

    location: float | None
    width: float | None


class Appraisal(_Model):
    """What is judged of one study."""

    study: str
    risk_of_bias: str
    certainty: str


class Git(_Model):
    """The commit of the project's checkout, and whether files differ from it."""

    commit: str
    dirty: bool


class Kernel(_Model):
    """What computed: the kernel's name in Jupyter and the interpreter that answered."""

    name: str | None
    python: str | None = Field(description="Path of its interpreter; null if it never answered.")
    own: bool = Field(description="Whether that is the environment of the command too.")


class Record(_Model):
    """One executed notebook."""

    schema_: Literal["dfsp.run/1"] = Field(alias="schema")
    notebook: str
    notebook_sha256: Sha256 | None
    parameters: dict[str, Any] = Field(description="Those that were given.")
    effective_parameters: dict[str, Any] = Field(
        default={}, description="All, as the kernel had them at the end."
    )
    status: Literal["complete", "failed"]
    reason: str | None
    log: str | None = Field(
        default=None, description="Of a failed run: the end of what its kernel's process printed."
    )
    kernel: Kernel | None = None
    versions: dict[str, str] = Field(description="Of Python and packages, in the kernel.")
    source_sha256: Sha256 | None = Field(
        default=None, description="Of the source of dfsp that the kernel had imported, if it had."
    )
    git: Git | None = None
    started: str
    seconds: float
    cell_seconds: list[float | None] = []
    data: dict[str, Sha256] = Field(description="SHA-256 of each file that was read.")
    engine: str | None
    seed: int | None
    model: dict[str, Any] | None = None
    headline: str | None
    prior_warning: str | None = Field(
        default=None, description="Which priors decide, which way, and what to do; empty for none."
    )
    prior_sensitivity: dict[str, dict[str, Power | None]] | None = Field(
        default=None, description="By quantity, and by what is raised to a power near one."
    )
    numbers: dict[str, Statistics]
    groups: dict[str, dict[str, Statistics]] = Field(
        default={}, description="Of a run of several tables, the numbers of each by its value."
    )
    unit: str | None = Field(
        default=None, description="In which pages say rates; the numbers here are from 0 to 1."
    )
    checks: list[Check]
    figures: list[str]
    tables: list[str] = []
    draws: str | None = None
    appraisal: list[Appraisal] | None = None
    estimand: dict[str, str] | None = Field(
        default=None, description="What the rate is of, by attribute of ICH E9(R1)."
    )
    certainty: dict[str, str] | None = Field(
        default=None, description="What the run can say of each domain of GRADE."
    )


MODELS: dict[str, type[BaseModel]] = {"plan": Plan, "run": Record}


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema of `"plan"` (as it is read) or `"run"` (as it is written).

    Examples
    --------
    >>> from dfsp.runs.models import schema_of
    >>> schema_of("plan")["required"]
    ['notebooks']
    """
    mode: Literal["validation", "serialization"] = (
        "validation" if name == "plan" else "serialization"
    )
    own = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"dfsp.{name}/1"}
    found = MODELS[name].model_json_schema(by_alias=True, mode=mode)
    return own | {key: value for key, value in found.items() if key != "title"}
