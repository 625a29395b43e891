"""The explorer: a change of a widget changes picture, sentence and command."""

import pytest

import dfsp
from dfsp.explorer import DEFAULTS, Picture, answer, code_line, explorer


def parts(box):
    *controls, image, sentence, line = box.children
    return {control.description: control for control in controls}, image, sentence, line


def test_a_slider_changes_the_figure_and_the_command():
    controls, image, sentence, line = parts(explorer())
    before, said = image.value, sentence.value
    controls["tau_scale"].value = 0.3
    assert image.value != before
    assert sentence.value != said
    assert "-p tau_scale 0.3" in line.value


def test_dropping_every_study_says_why_and_keeps_the_picture():
    controls, image, sentence, _ = parts(explorer())
    before = image.value
    controls["drop"].value = controls["drop"].options
    assert "no " in sentence.value.lower()
    assert image.value == before


def test_the_artists_are_moved_and_show_the_exact_fit():
    result = answer(**DEFAULTS)
    picture = Picture(len(result.studies))
    artists = picture.left.get_children()
    picture.show(answer(**DEFAULTS | {"tau_scale": 0.2}))
    picture.show(result)
    assert len(picture.left.get_children()) == len(artists)
    last = picture.spans.get_segments()[-1][:, 0]
    expected = result.summary.loc["new_study_rate", ["q2.5", "q97.5"]]
    assert last == pytest.approx(expected.to_numpy())


def test_the_command_names_the_state():
    line = code_line(**DEFAULTS | {"drop": ("A", "B")})
    assert '-p drop "A, B"' in line
    assert '-p not_evaluable "no event"' in line


def test_an_unknown_set_is_refused():
    with pytest.raises(dfsp.DfspError, match="nonsense"):
        explorer(evidence_set="nonsense")
