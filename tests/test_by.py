"""Many tables in one: a fit for each value of a column."""

import json
import re

import jsonschema
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from dense import binomials
from scipy import stats
from scipy.special import expit

import dfsp
from dfsp.cli import cli
from dfsp.errors import DfspError
from dfsp.evidence.tables import check_table, check_tables, read_tables, without_in
from dfsp.runs.compare import _counts
from dfsp.schemas import schema

# Three outcomes of the same patients, after a real table
EVENTS = (
    "study,AE,events,total\n1,minor,2,25\n1,major,3,25\n1,deadly,3,25\n2,minor,4,19\n"
    "2,major,1,19\n2,deadly,0,19\n3,minor,29,101\n3,major,13,101\n3,deadly,4,101\n"
)
GROUPS = ["minor", "major", "deadly"]


@pytest.fixture
def events(tmp_path):
    (tmp_path / "events.csv").write_text(EVENTS)
    return tmp_path / "events.csv"


def alone(events, group):
    """The rows of one group, as a table of its own."""
    frame = pd.read_csv(events, dtype={"study": str})
    return frame[frame["AE"] == group].reset_index(drop=True)


def test_each_table_is_as_if_it_were_alone(events):
    tables = read_tables(events, by="AE")
    assert list(tables) == GROUPS
    for group, counts in tables.items():
        own = dfsp.Counts.of(alone(events, group)).table
        for column in ("study", "events", "total", "AE"):
            assert counts.table[column].to_list() == own[column].to_list()
        assert counts.elsewhere == ("1", "2", "3")
    assert list(check_tables(pd.read_csv(events), by="AE")) == GROUPS


def test_who_stands_elsewhere():
    frame = pd.DataFrame(
        {
            "study": ["A", "B", "C", "A", "D"],
            "group": ["x", "x", "x", "y", "y"],
            "events": 3,
            "total": 9,
            "shares_patients_with": ["B", "", "", "", "C"],
        }
    )
    tables = check_tables(frame, by="group")
    assert tables["x"].elsewhere == ("A", "C")
    assert tables["y"].elsewhere == ("A", "D")
    assert tables["x"].table["shares_patients_with"].to_list() == ["B", "A", ""]


def test_all_faults_of_all_tables_at_once():
    frame = pd.DataFrame(
        {
            "study": ["A", "A", "B", "B", "C"],
            "group": ["x", "x", "y", "", "y"],
            "events": [1, 2, 9, 1, 1],
            "total": [9, 9, 4, 4, 4],
        }
    )
    with pytest.raises(DfspError) as raised:
        check_tables(frame, by="group")
    text = str(raised.value)
    assert "4 rows" not in text
    for says in (
        "row 1 (study 'A'): the study appears twice (rows 0 and 1)",
        "row 2 (study 'B'): events = 9 exceeds total = 4",
        "row 3 (study 'B'): group is empty",
    ):
        assert says in text
    with pytest.raises(DfspError, match="the column 'grp' \\(by\\) is missing; is it 'group'"):
        check_tables(frame, by="grp")


def test_a_table_without_patients_is_named():
    frame = pd.DataFrame(
        {"study": ["A", "B"], "group": ["x", "y"], "events": [1, 0], "total": [9, 0]}
    )
    tables = check_tables(frame, by="group", allow_empty=True)
    assert list(tables) == ["x"]
    assert "'y' has no patients" in tables["x"].notes


def test_fits_are_those_of_each_table(events):
    together = dfsp.fit_by(pd.read_csv(events, dtype={"study": str}), by="AE")
    for group in GROUPS:
        fit = dfsp.fit(alone(events, group))
        assert together.fits[group].as_dict() == fit.as_dict()
        row, summary = together.table.loc[group], fit.summary
        assert row[["typical_rate", "low", "high"]].to_list() == pytest.approx(
            summary.loc["typical_rate", ["q50", "q2.5", "q97.5"]].to_list(), abs=1e-9
        )
        assert row[["new_low", "new_high"]].to_list() == pytest.approx(
            summary.loc["new_study_rate", ["q2.5", "q97.5"]].to_list(), abs=1e-9
        )
        assert row["tau"] == pytest.approx(summary.loc["tau", "q50"], abs=1e-9)
        assert together.above(0.1).loc[group].to_dict() == fit.above(0.1).population
    assert len(together) == 3
    ends = together.table["typical_rate"][["deadly", "minor"]] * 100
    assert f"from {ends['deadly']:.1f} % (deadly) to {ends['minor']:.1f} %" in together.describe()


def test_equal_tables_are_solved_once_unless_their_rows_depend_otherwise():
    frame = pd.DataFrame({"study": list("ABCABCDEF"), "term": list("xxxyyyzzz")})
    frame["events"], frame["total"] = [1, 0, 2] * 3, [20, 30, 25] * 3
    frame["shares_patients_with"] = [""] * 6 + ["E", "D", ""]
    result = dfsp.fit_by(frame, by="term")
    first, second, other = result.posteriors.values()
    assert first is second
    assert other is not first
    alone = dfsp.fit(frame[frame["term"] == "z"].drop(columns="term").reset_index(drop=True))
    assert result.fits["z"].as_dict() == alone.as_dict()
    clusters = {name: check_table(rows, cluster="centre") for name, rows in _in_centres().items()}
    nested = dfsp.fit_by(clusters, by="term")
    assert nested.posteriors["x"] is not nested.posteriors["y"]
    assert ", sigma ~ HalfNormal(scale 1), " in nested.page().splitlines()[0]
    assert "rho ~ Uniform(0, 1)" in nested.page().splitlines()[0]


def test_equal_rates_run_from_nowhere_to_nowhere():
    frame = pd.DataFrame({"study": list("ABAB"), "term": list("xxyy")})
    frame["events"], frame["total"] = [3, 2] * 2, [10, 9] * 2
    said = dfsp.fit_by(frame, by="term").describe()
    assert re.search(r"the typical rate is \d+\.\d % in each\.$", said)


def _in_centres():
    """Equal counts, whose rows belong together otherwise."""
    table = pd.DataFrame({"study": list("ABCD"), "events": [1, 0, 2, 3], "total": 20})
    return {"x": table.assign(centre=list("ppqq")), "y": table.assign(centre=list("pqpq"))}


def test_beta_binomial_tables_have_no_typical_rate(events):
    frame = pd.read_csv(events, dtype={"study": str})
    together = dfsp.fit_by(frame, dfsp.Model(effects="beta-binomial"), by="AE")
    assert "typical_rate" not in together.table
    assert "concentration" in together.table
    assert "mean rate, %" in together.page(above=0.1)


def test_one_object_a_line(events):
    words = ["fit", str(events), "--by", "AE", "--json", "--above", "0.1"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["by"] for line in lines] == [{"AE": group} for group in GROUPS]
    for line in lines:
        jsonschema.validate(line, schema("fit"))
        assert line["n_studies"] == 3
        assert 0 < line["above"]["typical_rate"] < 1


def test_the_page_is_one_table(events):
    done = CliRunner().invoke(cli, ["fit", str(events), "--by", "AE", "--above", "0.1"])
    assert done.exit_code == 0, done.stderr
    assert "3 tables by AE; mu ~ Normal(mean 0, sd 2)" in done.stdout
    for words in ("minor", "typical rate, %", "new study, %", "P(new-study > 10.0 %)"):
        assert words in done.stdout
    assert max(map(len, done.stdout.partition("log marginal")[0].splitlines())) <= 112


def test_rates_have_the_digits_of_their_intervals():
    """22.3 in 100,000 stands beside 20 to 25, and its mean too; alone it would be 22."""
    rare = {"study": list("ABC"), "events": [220, 240, 210], "total": [1_000_000] * 3}
    model = dfsp.Model(tau=dfsp.HalfNormal(0.1))
    page = dfsp.fit_by(pd.DataFrame(rare | {"group": "all"}), model, by="group").page()
    (row,) = (line for line in page.splitlines() if line.startswith("all "))
    typical, mean = row.split("[")[0].split()[-1], row.split("]")[1].split()[0]
    assert len(typical) == len(mean) == 4
    assert f"the typical rate is {typical} per 100,000 (all)" in page


def test_the_help_shows_examples():
    done = CliRunner().invoke(cli, ["fit", "--help"])
    assert "  dfsp fit adverse_events.csv --by term --json\n" in done.stdout


def test_a_failed_check_of_one_table_is_exit_status_1(events, monkeypatch):
    monkeypatch.setattr("dfsp.fitting.GRID_ERROR", 0.0)
    done = CliRunner().invoke(cli, ["fit", str(events), "--by", "AE"])
    assert done.exit_code == 1
    assert "minor: exact: grid resolves the posterior: FAILED" in done.stdout


def test_clusters_of_each_table(events):
    frame = pd.DataFrame(
        {
            "study": list("ABCABC"),
            "trial": list("XXYXXY"),
            "group": ["x"] * 3 + ["y"] * 3,
            "events": [1, 2, 3, 4, 5, 6],
            "total": 12,
        }
    )
    together = dfsp.fit_by(check_tables(frame, by="group", cluster="trial"), by="group")
    assert [fit.as_dict()["n_clusters"] for fit in together.fits.values()] == [2, 2]
    assert together.model.quantities == dfsp.Model().quantities
    assert np.isfinite(together.table["tau"]).all()


def test_outcomes_of_the_same_patients_are_no_studies(events):
    def says(*words):
        done = CliRunner().invoke(cli, ["fit", str(events), *words])
        return str(done.exception) if done.exception else done.stderr

    assert "outcomes of the same patients are not several studies: --by AE fits each" in says()
    apart = says("--study", "study,AE")
    assert "each study has several rows with the same total" in apart
    assert "--by AE" in apart
    assert "--cluster study" in apart
    # Who says that they are arms is believed, and told.
    assert "note: each study has several rows" in says("--study", "study,AE", "--cluster", "study")
    assert says("--by", "AE") == ""


def test_arms_are_no_outcomes_of_the_same_patients():
    frame = pd.DataFrame(
        {"study": list("AABB"), "arm": list("xyxy"), "events": 3, "total": [9, 8, 7, 7]}
    )
    assert len(check_tables(frame, by="arm")) == 2
    counts = check_table(frame, study="study,arm", cluster="study")
    assert counts.notes == ()
    with pytest.raises(DfspError, match="arms of one study belong together: --study study,arm"):
        check_table(frame)


@pytest.mark.slow
def test_sampled_tables(events):
    frame = pd.read_csv(events, dtype={"study": str})
    both = dfsp.fit_by(frame, by="AE", engine="both")
    assert not both.failed
    sampled = dfsp.fit_by(frame, by="AE", engine="nuts", draws=500)
    exact = dfsp.fit_by(frame, by="AE")
    assert sampled.table["typical_rate"].to_numpy() == pytest.approx(
        exact.table["typical_rate"].to_numpy(), abs=0.02
    )


# ---------------------------------------------------------------- one tau in all tables

SUBGROUPS = {
    "young": ([7, 4, 3], [15, 22, 30]),
    "old": ([9, 2], [18, 20]),
    "all or nothing": ([0, 12, 0], [30, 12, 25]),
}


def subgroups(**rest):
    return pd.DataFrame(
        [
            {"study": f"{group} {i}", "group": group, "events": events, "total": total, **rest}
            for group, counts in SUBGROUPS.items()
            for i, (events, total) in enumerate(zip(*counts, strict=True))
        ]
    )


def gauss(low, high, number):
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return low + (high - low) / 2 * (nodes + 1), (high - low) / 2 * weights


def dense(prior, upper):
    """Plain sums over tau, mu of each table, and every study's effect.

    Returns the log evidence, the mean of tau, and by table the mean of its typical rate, and of its
    first study's rate.
    """
    tau, weight = gauss(0, upper, 90)
    mu, z = np.linspace(-16, 16, 1201), np.linspace(-8, 8, 161)
    of_z, of_mu = stats.norm.pdf(z) * 0.1, stats.norm.pdf(mu, 0, 2) * (mu[1] - mu[0])
    evidence, typical, first = np.empty((3, len(SUBGROUPS), len(tau)))
    for k, each in enumerate(tau):
        theta = mu[:, None] + each * z
        rate = expit(theta)
        for g, (events, total) in enumerate(SUBGROUPS.values()):
            values = list(binomials(events, total, theta))
            product = np.prod([value @ of_z for value in values], axis=0)
            evidence[g, k] = product @ of_mu
            typical[g, k] = (product * expit(mu)) @ of_mu / evidence[g, k]
            own = np.where(product > 0, product / (values[0] @ of_z), 0)
            first[g, k] = (own * ((values[0] * rate) @ of_z)) @ of_mu / evidence[g, k]
    joint = evidence.prod(0) * prior(tau) * weight
    share = joint / joint.sum()
    return np.log(joint.sum()), share @ tau, typical @ share, first @ share


def test_one_tau_is_that_of_plain_sums():
    log_evidence, tau, typical, first = dense(stats.halfnorm.pdf, 7)
    together = dfsp.fit_by(subgroups(), by="group", common_tau=True)
    assert together.log_marginal_likelihood == pytest.approx(log_evidence, abs=1e-5)
    for g, fit in enumerate(together.fits.values()):
        assert fit.summary.loc["tau", "mean"] == pytest.approx(tau, abs=1e-5)
        assert fit.summary.loc["typical_rate", "mean"] == pytest.approx(typical[g], abs=1e-5)
        assert fit.studies["mean"][0] == pytest.approx(first[g], abs=1e-5)
    taus = np.array([posterior.tau.summary() for posterior in together.posteriors.values()])
    assert taus == pytest.approx(np.tile(taus[0], (3, 1)), abs=1e-5)
    # One group after the other: what each adds is its evidence given the others.
    alone = dfsp.fit_by(subgroups(), by="group")
    assert alone.log_marginal_likelihood == pytest.approx(
        sum(fit.exact.log_marginal_likelihood for fit in alone.fits.values())
    )
    assert together.log_marginal_likelihood != pytest.approx(alone.log_marginal_likelihood)


def test_evidence_given_the_others_adds_up():
    """log p(all) - log p(others), the others fitted by themselves."""
    table = subgroups()
    together = dfsp.fit_by(table, by="group", common_tau=True)
    others = dfsp.fit_by(table[table["group"] != "old"], by="group", common_tau=True)
    assert together.posteriors["old"].log_marginal_likelihood == pytest.approx(
        together.log_marginal_likelihood - others.log_marginal_likelihood, abs=1e-5
    )
    study = together.fits["young"].studies["leave_one_out_lpd"][1]
    without = dfsp.fit_by(table.drop(1), by="group", common_tau=True)
    assert study == pytest.approx(
        together.log_marginal_likelihood - without.log_marginal_likelihood, abs=1e-5
    )


@pytest.mark.parametrize(
    "model",
    [
        dfsp.Model(tau=dfsp.Uniform(2)),
        dfsp.Model(tau=dfsp.HalfCauchy(1)),
        dfsp.Model(tau=dfsp.LogNormal(-1, 1)),
        dfsp.Model(effects="student-t"),
        dfsp.Model(effects="exnex"),
    ],
)
def test_one_table_is_itself(model):
    """There is nobody to have a tau in common with."""
    table = subgroups().query("group == 'young'")
    one, alone = (dfsp.fit_by(table, model, by="group", common_tau=c) for c in (True, False))
    assert one.log_marginal_likelihood == pytest.approx(alone.log_marginal_likelihood, abs=1e-5)
    assert one.table.to_numpy() == pytest.approx(alone.table.to_numpy(), abs=1e-5)


def test_a_cliff_beside_a_wide_prior_is_reached_with_one_tau_too():
    """One table with one tau is itself: see above."""
    frame = pd.DataFrame({"study": list("ABC"), "events": 0, "total": [42, 32, 46], "drug": "x"})
    model = dfsp.Model(mu=dfsp.Normal(0, 30))
    alone = dfsp.fit(frame.drop(columns="drug"), model).posterior.log_marginal_likelihood
    together = dfsp.fit_by(frame, model, by="drug", common_tau=True)
    assert together.common == pytest.approx(alone, abs=1e-7)


def test_a_fixed_tau_is_common_already():
    model = dfsp.Model(tau=dfsp.Fixed(0.4))
    one, alone = (
        dfsp.fit_by(subgroups(), model, by="group", common_tau=common) for common in (True, False)
    )
    assert one.table.equals(alone.table)
    assert one.log_marginal_likelihood == alone.log_marginal_likelihood


def test_one_tau_is_refused_where_it_makes_no_sense(events):
    done = CliRunner().invoke(cli, ["fit", str(events), "--by", "AE", "--common-tau"])
    assert "needs tables of different patients" in str(done.exception)
    assert "of AE, or share patients with one there: 1, 2, 3." in str(done.exception)
    done = CliRunner().invoke(cli, ["fit", str(events), "--common-tau"])
    assert "--common-tau needs --by" in str(done.exception)
    how = {"by": "group", "common_tau": True}
    with pytest.raises(DfspError, match="beta-binomial effects have no tau"):
        dfsp.fit_by(subgroups(), dfsp.Model(effects="beta-binomial"), **how)
    with pytest.raises(DfspError, match="exact engine only"):
        dfsp.fit_by(subgroups(), engine="nuts", **how)
    clusters = check_tables(subgroups(trial="X"), by="group", cluster="trial")
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.fit_by(clusters, **how)


def test_one_tau_in_page_and_object(tmp_path):
    subgroups().to_csv(tmp_path / "mine.csv", index=False)
    words = ["fit", str(tmp_path / "mine.csv"), "--by", "group", "--common-tau"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.stderr
    assert "one tau in all tables" in done.stdout
    for line in CliRunner().invoke(cli, [*words, "--json"]).stdout.splitlines():
        jsonschema.validate(json.loads(line), schema("fit"))
        assert json.loads(line)["common_tau"] is True
        assert json.loads(line)["prior_sensitivity"] is None


def test_a_page_of_tables_names_priors_that_decide_and_one_table_runs_from_nowhere():
    """The warning is that of the table fitted alone."""
    table = pd.DataFrame(
        {"study": list("AB"), "events": [1, 2], "total": [10, 20], "g": ["x", "x"]}
    )
    page = dfsp.fit_by(table, by="g").page()
    alone = dfsp.fit(table.drop(columns="g")).prior_warning()
    assert "for x " in page and page.count("decides") == alone.count("decides") == 2
    assert "before these counts: typical rate" in page
    assert "1 table by g: the typical rate is " in page and " runs from " not in page


def test_rows_that_belong_together_are_counted_by_their_studies():
    """Expected: sigma and rates of each table fitted alone."""
    rows = {"study": list("abcd"), "events": [1, 2, 1, 3], "total": [10, 20, 9, 9]}
    frame = pd.DataFrame(rows | {"drug": list("xxyy"), "trial": ["1", "1", "2", "3"]})
    tables = check_tables(frame, by="drug", cluster="trial")
    result = dfsp.fit_by(tables, by="drug")
    assert result.table[["groups", "studies"]].to_numpy().tolist() == [[2, 1], [2, 2]]
    for drug, counts in tables.items():
        alone = dfsp.fit(counts).summary
        assert result.table.at[drug, "sigma"] == pytest.approx(alone.at["sigma", "q50"], abs=1e-12)
    assert "groups belong to studies" in result.page()
    assert "x: identification of rho: cannot tell. rho is not identified: 1 " in result.page()


# ---------------------------------------------------------------- means that borrow


def plain_sums(share):
    """Sums over mu, tau, M and T of the tables of `SUBGROUPS`, T by Gauss-Legendre.

    Returns the log evidence, and by table the mean of its typical rate, of tau, and the probability
    that it is exchangeable.
    """
    mu, z = np.linspace(-14, 14, 1001), np.linspace(-7, 7, 57)
    of_z, step = stats.norm.pdf(z) * (z[1] - z[0]), mu[1] - mu[0]
    tau, of_tau = gauss(0, 6, 30)
    of_tau = of_tau * stats.halfnorm.pdf(tau)
    z_of, tau_of = np.zeros((2, len(SUBGROUPS), len(mu)))
    for g, (events, total) in enumerate(SUBGROUPS.values()):
        for each, weight in zip(tau, of_tau, strict=True):
            theta = mu[:, None] + each * z
            parts = [value @ of_z for value in binomials(events, total, theta)]
            z_of[g] += weight * np.prod(parts, axis=0)
            tau_of[g] += each * weight * np.prod(parts, axis=0)
    asked = np.stack([z_of, z_of * expit(mu), tau_of])
    alone = asked @ stats.norm.pdf(mu, 0, 2) * step
    m, (spread, of_spread) = mu[150:-150:2], gauss(0, 6, 40)
    evidence, found = 0.0, np.zeros((3, len(SUBGROUPS)))
    for each, weight in zip(spread, of_spread * stats.halfnorm.pdf(spread), strict=True):
        # A normal too narrow for mu's points is the density at its middle, to second order.
        near = stats.norm.pdf(mu[:, None], m, max(each, 1.5 * step))
        near /= near.sum(0)
        together = share * asked @ near + (1 - share) * alone[..., None]
        joint = weight * stats.norm.pdf(m, 0, 2) * 2 * step * together[0].prod(0)
        evidence += joint.sum()
        found[:2] += (joint * together[1:] / together[0]).sum(-1)
        found[2] += (joint * (share * asked[0] @ near) / together[0]).sum(-1)
    return np.log(evidence), *found / evidence


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_borrowing_is_that_of_plain_sums(share):
    log_evidence, typical, tau, exchangeable = plain_sums(share)
    result = dfsp.fit_by(subgroups(), by="group", borrow=share)
    assert result.log_marginal_likelihood == pytest.approx(log_evidence, abs=1e-4)
    for name, expected in (("typical_rate", typical), ("tau", tau)):
        found = [getattr(each, name).mean for each in result.posteriors.values()]
        assert found == pytest.approx(expected, abs=1e-4)
    assert result.table["exchangeable"].to_numpy() == pytest.approx(exchangeable, abs=1e-4)


def test_who_never_borrows_is_alone():
    none = dfsp.fit_by(subgroups(), by="group", borrow=0.0)
    alone = dfsp.fit_by(subgroups(), by="group")
    assert none.table[list(alone.table)].to_numpy() == pytest.approx(
        alone.table.to_numpy(), abs=1e-6
    )
    assert none.log_marginal_likelihood == pytest.approx(alone.log_marginal_likelihood, abs=1e-6)
    assert none.table["exchangeable"].abs().max() < 1e-12


def test_evidence_of_a_table_given_those_it_borrows_from_adds_up():
    """log p(all) - log p(others), the others fitted by themselves; as does that of a study."""
    table, how = subgroups(), {"by": "group", "borrow": 0.7, "borrow_scale": 0.5}
    together = dfsp.fit_by(table, **how)
    others = dfsp.fit_by(table[table["group"] != "old"], **how)
    assert together.posteriors["old"].log_marginal_likelihood == pytest.approx(
        together.log_marginal_likelihood - others.log_marginal_likelihood, abs=1e-5
    )
    study = together.fits["young"].studies["leave_one_out_lpd"][1]
    without = dfsp.fit_by(table.drop(1), **how)
    assert study == pytest.approx(
        together.log_marginal_likelihood - without.log_marginal_likelihood, abs=1e-5
    )


def test_a_table_apart_from_the_rest_borrows_little():
    """Large ones at 10 %, one at 90 %: with p of 1 all pull, with p of 0.5 it stands alone."""
    rows = [
        {"study": f"{g}{i}", "group": g, "events": 45 if g == "d" else 5 + i, "total": 50}
        for g in "abcd"
        for i in range(3)
    ]
    table = pd.DataFrame(rows)
    half = dfsp.fit_by(table, by="group", borrow=0.5, borrow_scale=0.25).table
    whole = dfsp.fit_by(table, by="group", borrow=1.0, borrow_scale=0.25).table
    alone = dfsp.fit_by(table, by="group").table
    assert half.at["d", "exchangeable"] < 0.05 < 0.8 < half.at["a", "exchangeable"]
    rates = [float(each.at["d", "typical_rate"]) for each in (alone, half, whole)]
    assert rates[0] - rates[1] < 0.01 < rates[1] - rates[2]
    width = [float(each.at["a", "high"] - each.at["a", "low"]) for each in (half, alone)]
    assert width[0] < width[1]


@pytest.mark.slow
def test_borrowing_is_that_of_nuts():
    """The model written down once more, with the means of the tables sampled."""
    pm = pytest.importorskip("pymc")
    table = subgroups()
    group = pd.Categorical(table["group"], categories=list(SUBGROUPS)).codes
    with pm.Model():
        centre, spread = pm.Normal("M", 0, 2), pm.HalfNormal("T", 1)
        parts = [pm.Normal.dist(centre, spread), pm.Normal.dist(0, 2)]
        mu = pm.Mixture("mu", w=[0.5, 0.5], comp_dists=parts, shape=3)
        tau, z = pm.HalfNormal("tau", 1, shape=3), pm.Normal("z", shape=len(table))
        pm.Binomial(
            "events", n=table["total"].to_numpy(), logit_p=mu[group] + tau[group] * z,
            observed=table["events"].to_numpy(),
        )  # fmt: skip
        drawn = pm.sample(
            2000, tune=2000, chains=4, random_seed=1, progressbar=False, target_accept=0.99,
            nuts_sampler="nutpie",
        )  # fmt: skip
    import arviz as az

    rate = expit(drawn["posterior"]["mu"])
    result = dfsp.fit_by(table, by="group", borrow=0.5)
    for g, each in enumerate(result.posteriors.values()):
        own = rate.isel({rate.dims[-1]: g}).to_numpy()
        error = float(az.mcse(own, method="mean"))
        assert abs(own.mean() - each.typical_rate.mean) < 4 * error


def test_borrowing_in_page_and_object(tmp_path):
    subgroups().to_csv(tmp_path / "mine.csv", index=False)
    words = ["fit", str(tmp_path / "mine.csv"), "--by", "group", "--borrow", "0.5"]
    done = CliRunner().invoke(cli, [*words, "--borrow-scale", "0.5"])
    assert done.exit_code == 0, done.stderr
    assert "mu of each table ~ 0.5 N(M, T^2) + 0.5 Normal(mean 0, sd 2), M ~ Normal" in done.stdout
    assert "T ~ HalfNormal(scale 0.5)\n" in done.stdout
    assert "The median of the tables that borrow has a typical rate of" in done.stdout
    for line in CliRunner().invoke(cli, [*words, "--json"]).stdout.splitlines():
        found = json.loads(line)
        jsonschema.validate(found, schema("fit"))
        assert found["borrow"]["share"] == 0.5 and 0 < found["borrow"]["exchangeable"] < 1
        assert found["borrow"]["priors"]["T"] == {"family": "half-normal", "scale": 1.0}
        assert found["prior_sensitivity"] is None


def test_borrowing_is_refused_where_it_makes_no_sense(events):
    def says(*words):
        return str(CliRunner().invoke(cli, ["fit", str(events), *words]).exception)

    assert "needs tables of different patients" in says("--by", "AE", "--borrow", "0.5")
    assert "--borrow needs --by" in says("--borrow", "0.5")
    assert "--borrow-scale needs --borrow" in says("--by", "AE", "--borrow-scale", "1")
    how = {"by": "group", "borrow": 0.5}
    with pytest.raises(DfspError, match="borrowing between tables needs mu and tau"):
        dfsp.fit_by(subgroups(), dfsp.Model(effects="beta-binomial"), **how)
    with pytest.raises(DfspError, match="exact engine only"):
        dfsp.fit_by(subgroups(), engine="nuts", **how)
    with pytest.raises(DfspError, match="do not go together"):
        dfsp.fit_by(subgroups(), common_tau=True, **how)
    with pytest.raises(DfspError, match="give a probability, from 0 to 1"):
        dfsp.fit_by(subgroups(), by="group", borrow=1.5)
    clusters = check_tables(subgroups(trial="X"), by="group", cluster="trial")
    with pytest.raises(DfspError, match="does not model clusters"):
        dfsp.fit_by(clusters, **how)


# ------------------------------------------------------------ what people ask, of each table


def test_what_is_asked_of_one_fit_is_asked_of_each(events):
    together = dfsp.fit_by(pd.read_csv(events, dtype={"study": str}), by="AE")
    for ask in ("predictive_check", "leave_one_out", "prior_table", "summary_in_unit"):
        found = getattr(together, ask)()
        assert found["AE"].unique().tolist() == GROUPS
        for group in GROUPS:
            own = getattr(together.fits[group], ask)()
            numbered = ask == "predictive_check"
            own = own.rename_axis(index=own.index.name or "").reset_index(drop=numbered)
            mine = found[found["AE"] == group].drop(columns="AE").reset_index(drop=True)
            pd.testing.assert_frame_equal(pd.DataFrame(mine), pd.DataFrame(own), check_dtype=False)
    for ask in ("heterogeneity", "new_study"):
        said = getattr(together, ask)().splitlines()
        each = [getattr(together.fits[group], ask)().describe() for group in GROUPS]
        assert said == [f"{group}: {one}" for group, one in zip(GROUPS, each, strict=True)]
    assert together.pooled()["rate"].tolist() == pytest.approx([35 / 145, 17 / 145, 7 / 145])
    assert together.agreement() == together.fits["minor"].agreement()
    assert together.answer().startswith(together.describe())
    assert len(together.studies) == len(together.predictive_check()) == 9


def test_a_study_leaves_every_table_and_a_table_without_studies_leaves_too():
    frame = pd.DataFrame(
        {
            "study": ["Lord, 2011", "B", "Lord, 2011", "C"],
            "group": ["x", "x", "y", "z"],
            "events": 3,
            "total": 9,
        }
    )
    tables = without_in(check_tables(frame, by="group"), "Lord, 2011")
    assert {name: each.table["study"].to_list() for name, each in tables.items()} == {
        "x": ["B"],
        "z": ["C"],
    }
    assert tables["x"].elsewhere == ()
    with pytest.raises(DfspError, match="drop: 'D' is not known"):
        without_in(tables, ["D"])
    with pytest.raises(DfspError, match="no study is left"):
        without_in(tables, ["B", "C"])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"by": "drug"}, "by = 'drug': it names a column of a table of one's own; give table"),
        ({"common_tau": True}, "common_tau needs by, which says what the tables are"),
        ({"borrow": 0.5}, "borrow needs by"),
        ({"table": "t.csv", "by": "AE", "borrow": 0.5, "common_tau": True}, "do not go together"),
        ({"table": "t.csv", "by": "AE", "borrow": 0.5}, "borrow has the exact engine only"),
        ({"table": "t.csv", "by": "AEE", "engine": "exact"}, "'AEE' (by) is missing"),
    ],
)
def test_parameters_that_need_each_other(values, says, events, monkeypatch):
    own = values | ({"table": str(events)} if "table" in values else {})
    own = {"outcome": "", "not_evaluable": "", "engine": "both"} | own if "table" in own else own
    assert any(says in fault for fault in dfsp.parameters.faults_of(own))


def test_a_record_of_tables_has_the_numbers_of_each(events, tmp_path, monkeypatch):
    together = dfsp.fit_by(read_tables(events, by="AE"), by="AE")
    monkeypatch.setenv("DFSP_RUN_FOLDER", str(tmp_path))
    assert dfsp.record(fit=together).startswith("3 tables by AE")
    found = json.loads((tmp_path / "findings.json").read_text())
    assert list(found["groups"]) == GROUPS
    for group in GROUPS:
        own = together.fits[group].as_dict()
        assert found["groups"][group]["typical_rate"] == own["typical_rate"]
    assert found["checks"][0]["name"] == "minor: exact: grid resolves the posterior"
    assert set(found["tables"]) == {"groups.csv", "summary.csv", "studies.csv"}
    counts = _counts(tmp_path)
    assert counts["1 (minor)"] == "2 of 25"
    assert len(counts) == 9
    assert pd.read_csv(tmp_path / "groups.csv")["AE"].to_list() == GROUPS


def test_rows_add_up_others_of_their_own_group_only():
    """(11, 37) is the sum of two rows of group A before it, and those of B interleave with them."""
    rows = {"events": [7, 2, 4, 11], "total": [15, 8, 22, 37], "study": list("PQRS")}
    accepted = check_tables(pd.DataFrame(rows | {"group": ["A", "B", "A", "B"]}), by="group")
    assert [len(accepted[name].table) for name in ("A", "B")] == [2, 2]
    with pytest.raises(DfspError, match="11 of 37 is the sum of rows") as refused:
        check_tables(pd.DataFrame(rows | {"group": ["A", "B", "A", "A"]}), by="group")
    assert str(refused.value).count("is the sum of") == 1


def test_of_many_groups_a_prior_is_said_to_decide_by_number_and_where_it_moves_most():
    """Of 30 small tables all are moved by tau's prior; no sentence names 30."""
    names = [f"term {i}" for i in range(30)]
    rows = [(f"{name}, {k}", k, 12 + k, name) for name in names for k in (2, 5)]
    table = pd.DataFrame(rows, columns=["study", "events", "total", "term"])
    said = dfsp.fit_by(table, by="term").prior_warning()
    assert "The prior of tau decides for 30 of 30, most of all: for term 0 it" in said
    assert said.count("for term") == said.count("most of all") * 4
