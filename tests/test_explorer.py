"""The explorer: a change of a widget changes picture, sentence and lines of code."""

import io
import re
import shlex
from html import unescape

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import dfsp
from dfsp.engine.predictive import prior_of
from dfsp.explorer import DPI, Picture, answer, before, code_line, command_line, explorer, start
from dfsp.model.effects import FAMILIES
from dfsp.parameters import Parameters, check

START = start(Parameters())
STATE = START | {
    "not_evaluable": "excluded",
    "drop": ("han-2009", "kerob-2010"),
    "mu_sd": 1.5,
    "tau_family": "log-normal",
    "tau_scale": 0.4,
}


class Widgets:
    def __init__(self, box):
        choices, self.sentence, self.image, self.densities, keeping, self.code = box.children
        self.button, self.saved = keeping.children
        left, self.studies = choices.children
        self.controls = {control.description: control for control in left.children}

    def tick(self, study, value):
        next(b for b in self.studies.children if b.description == study).value = value


def test_a_slider_changes_the_figure_and_the_lines_of_code():
    shown = Widgets(explorer())
    before, said = shown.image.value, shown.sentence.value
    shown.controls["tau scale"].value = 0.3
    assert shown.image.value != before
    assert shown.sentence.value != said
    headline = answer(**START | {"tau_scale": 0.3}).describe()
    assert unescape(shown.sentence.value).startswith(f"<b>{headline}</b>")
    assert "-p tau_scale 0.3" in shown.code.value
    assert "scale=0.3" in shown.code.value


@pytest.mark.parametrize("outcome", ["objective_response", "complete_response"])
def test_the_forest_is_that_of_the_notebooks(outcome):
    """Expected are the pixels of `dfsp.plots.forest`; nothing stays open to be shown twice."""
    others = plt.get_fignums()
    shown = Widgets(explorer())
    shown.controls["outcome"].value = outcome
    ax = dfsp.plots.forest(answer(**START | {"outcome": outcome}))
    file = io.BytesIO()
    ax.get_figure().savefig(file, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(ax.get_figure())
    drawn, own = (np.asarray(Image.open(each)) for each in (io.BytesIO(shown.image.value), file))
    assert np.array_equal(drawn, own)
    assert plt.get_fignums() == others


def test_the_forest_can_be_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = Widgets(explorer())
    shown.controls["tau scale"].value = 0.3
    shown.button.click()
    assert {path.name for path in tmp_path.iterdir()} == {"explored.svg", "explored.png"}
    assert str(tmp_path / "explored.svg") in shown.saved.value
    ax = dfsp.plots.forest(answer(**START | {"tau_scale": 0.3}))
    (again,) = dfsp.plots.save(ax, tmp_path / "again", formats=["svg"])
    assert again.read_text("utf-8") == (tmp_path / "explored.svg").read_text("utf-8")
    shown.controls["tau scale"].value = 0.4
    assert shown.saved.value == ""


def test_there_is_a_widget_for_each_part_of_the_state():
    shown = Widgets(explorer())
    names = {name.replace("_", " ") for name in START}
    names -= {"drop", "folder", "table"}
    assert set(shown.controls) == names
    assert shown.controls["evidence set"].options == ("review", "reconciled", "reconciled_by_dose")
    assert [box.description for box in shown.studies.children] == list(
        answer(**START).studies["study"]
    )


def test_a_study_without_a_tick_is_left_out_until_it_is_ticked_again():
    shown = Widgets(explorer())
    before = shown.image.value
    shown.tick("Han 2009", False)
    assert shown.image.value != before
    assert '-p drop "han-2009"' in unescape(shown.code.value)
    shown.tick("Han 2009", True)
    assert shown.image.value == before
    assert "drop" not in shown.code.value


def test_another_set_offers_its_own_studies():
    shown = Widgets(explorer())
    shown.tick("Han 2009", False)
    shown.controls["evidence set"].value = "review"
    review = dfsp.count(dfsp.load_evidence("review"), "objective_response").table
    assert [box.description for box in shown.studies.children] == list(review["study"])
    assert 'drop=["han-2009"]' in unescape(shown.code.value)


def test_without_any_study_it_says_why_and_keeps_the_picture(own_folder):
    shown = Widgets(explorer(evidence_set="mine", folder=str(own_folder)))
    for box in shown.studies.children[:-1]:
        box.value = False
    before, code = shown.image.value, shown.code.value
    shown.studies.children[-1].value = False
    assert "no " in shown.sentence.value.lower()
    assert shown.image.value == before
    assert shown.code.value == code


def test_the_artists_are_moved_and_show_the_exact_fit():
    result = answer(**START)
    picture = Picture()
    every = {part: list(part.get_children()) for part in picture.figure.axes}
    other = answer(**START | {"tau_scale": 0.2})
    picture.show(other, prior_of(other.model))
    first, still = picture.png(), picture._still
    picture.show(result, prior_of(result.model))
    assert picture.png() != first
    assert picture._still is still
    assert {part: list(part.get_children()) for part in picture.figure.axes} == every
    rates = picture.new.middles, picture.new.after.get_ydata()
    assert rates[0] @ rates[1] == pytest.approx(
        result.summary.loc["new_study_rate", "mean"], abs=2e-3
    )


DRAWN = [name for name, prior in dfsp.model.priors.TAU_FAMILIES.items() if not prior.no_picture]


@pytest.mark.parametrize("family", DRAWN)
def test_every_prior_of_tau_can_be_drawn(family):
    result = answer(**START | {"tau_family": family, "tau_scale": 1.5})
    picture = Picture()
    picture.show(result, prior_of(result.model))
    cdf = np.cumsum([0, *picture.tau.before.get_ydata()])
    at = result.model.tau.ppf(0.4)
    expected = 1 if family == "fixed" else 0.4
    assert np.interp(at, picture.tau.edges, cdf) == pytest.approx(expected, abs=1e-3)


def test_a_prior_without_a_picture_is_refused():
    model = answer(**START | {"tau_family": "inverse-gamma"}).model
    with pytest.raises(dfsp.DfspError, match=r"the prior cannot be drawn under tau ~ InverseGamma"):
        before(model)


@pytest.mark.parametrize("effects", FAMILIES)
@pytest.mark.parametrize("family", ["half-normal", "half-cauchy", "log-normal", "fixed"])
def test_the_quick_prior_is_drawn_like_the_exact_one(family, effects):
    model = answer(**START | {"tau_family": family, "effects": effects}).model
    quick, exact, drawn = before(model), prior_of(model), Picture()
    parts = [(drawn.new, quick.new_study_rate, exact.new_study_rate)]
    if not effects.startswith("beta-binomial"):
        parts.append((drawn.tau, quick.tau, exact.tau))
    for panel, mine, theirs in parts:
        # Without the outermost bins: a table ends where a rate is 0 or 1 to double precision
        mine, theirs = (panel._binned(each)[1:-1] for each in (mine, theirs))
        assert mine == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("effects", FAMILIES)
def test_all_effects_can_be_drawn(effects):
    result = answer(**START | {"effects": effects})
    picture = Picture()
    picture.show(answer(**START), prior_of(dfsp.Model()))
    picture.show(result, prior_of(result.model))
    assert picture.png()
    assert len(picture.tau.after.get_xdata()) == (0 if effects.startswith("beta-binomial") else 120)


@pytest.mark.parametrize("effects", FAMILIES)
def test_the_line_of_python_reproduces_the_state(effects):
    state = STATE | {"effects": effects}
    again, result = eval(code_line(**state)), answer(**state)
    assert again.model == result.model
    assert again.summary.equals(result.summary)


@pytest.mark.parametrize("effects", FAMILIES)
def test_the_command_reproduces_the_state(effects):
    state = STATE | {"effects": effects}
    words = shlex.split(command_line(**state))
    assert words[:3] == ["dfsp", "run", "notebooks/02_response.ipynb"]
    given = dict(zip(words[4::3], words[5::3], strict=True))
    given = {"mu_sd": 2.0, "tau_family": "half-normal", "tau_scale": 1.0} | given
    given |= {name: float(given[name]) for name in ("mu_sd", "tau_scale")}
    read = check(given)
    result = answer(**state)
    assert read.model == result.model
    assert read.counts.table.equals(result.counts.table)


def test_a_folder_of_ones_own_offers_its_sets_and_reproduces_the_answer(own_folder):
    shown = Widgets(explorer(evidence_set="mine", folder=str(own_folder)))
    assert shown.controls["evidence set"].options == ("mine",)
    assert [box.description for box in shown.studies.children] == ["Adams", "Brown", "Clark"]
    shown.tick("Brown", False)
    line, command = (
        unescape(text) for text in re.findall(r"<pre[^>]*>(.*?)</pre>", shown.code.value)
    )
    assert eval(line).studies["study"].to_list() == ["Adams", "Clark"]
    assert f'-p folder "{own_folder}"' in command


def test_a_table_of_ones_own_has_no_set_and_no_outcome(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("study,events,total\nA,3,10\nB,5,12\nC,2,9\n")
    shown = Widgets(explorer(table=str(table)))
    assert set(shown.controls) == {"mu sd", "tau family", "tau scale", "effects"}
    shown.tick("B", False)
    line, command = (
        unescape(text) for text in re.findall(r"<pre[^>]*>(.*?)</pre>", shown.code.value)
    )
    assert eval(line).studies["study"].to_list() == ["A", "C"]
    words = shlex.split(command)
    given = dict(zip(words[4::3], words[5::3], strict=True))
    given |= {name: float(given[name]) for name in ("mu_sd", "tau_scale")}
    assert check(given).counts.table["study"].to_list() == ["A", "C"]


def test_studies_that_cannot_be_counted_are_named_with_the_reason():
    shown = Widgets(explorer())
    assert "Not counted" not in shown.sentence.value
    shown.controls["not evaluable"].value = "excluded"
    assert "Not counted: Rutkowski 2010 (pooled): SD+NE 9 cannot be divided" in shown.sentence.value


def test_beta_binomial_effects_have_no_tau():
    shown = Widgets(explorer())
    own = ("mu sd", "tau family", "tau scale")
    assert not any(shown.controls[name].disabled for name in own)
    shown.controls["effects"].value = "beta-binomial"
    assert all(shown.controls[name].disabled for name in own)
    shown.controls["effects"].value = "normal"
    assert not any(shown.controls[name].disabled for name in own)
    picture = Picture()
    for effects, said in (("beta-binomial", "no tau under beta-binomial effects"), ("normal", "")):
        result = answer(**START | {"effects": effects})
        picture.show(result, prior_of(result.model))
        assert picture.tau.nothing.get_text() == said


def test_an_unknown_set_is_refused():
    with pytest.raises(dfsp.DfspError, match="nonsense"):
        explorer(evidence_set="nonsense")
