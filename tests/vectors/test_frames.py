"""Tables elsewhere: pandas, polars, AnnData in scanpy, SQL of the docs; and clear refusals."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from gigassl.errors import SettingsError
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.row import SlideRow
from gigassl.vectors.table import SlideTable, save_table, table_from_rows
from tests.shared_data import REPO_ROOT

N_SLIDES, DIM = 24, 16
DOCS = (REPO_ROOT / "docs" / "tables.md").read_text(encoding="utf-8")


def cohort() -> SlideTable:
    """Two groups of slides, twelve patients, two of each; some facts are not known."""
    rng = np.random.default_rng(0)
    rows = [
        SlideRow(
            slide_id=f"s{number:02}", patient_id=f"p{number // 2:02}", patient_rule="column",
            file=f"s{number:02}.svs",
            embedding=l2_normalised(rng.normal(size=DIM) + 4 * (np.arange(DIM) == number % 2)),
            n_tiles=100 + number, n_views=None if number % 3 else 10,
            mpp=0.25 + 0.25 * (number % 2), mpp_source="file:mpp" if number % 4 else "given",
            effective_mpp=0.5, width_l0=40_000, height_l0=30_000, slide_digest=f"d{number}",
            settings_digest="bb",
        )
        for number in range(N_SLIDES)
    ]  # fmt: skip
    provenance = {"versions": {"gigassl": "0.1.0"}, "settings": {"x": None, "y": [1, {"z": 2}]}}
    return table_from_rows(rows, provenance=provenance)


def labels() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "slide_id": [f"s{number:02}" for number in range(N_SLIDES)],
            "subtype": ["luad" if number % 2 else "lusc" for number in range(N_SLIDES)],
            "age": np.linspace(40, 80, N_SLIDES),
            "smoker": [None, True, False] * (N_SLIDES // 3),
        }
    )


def test_polars_has_the_same_numbers() -> None:
    table = cohort()
    frame = table.to_polars()
    assert frame["embedding"].dtype == pl.Array(pl.Float32, DIM)
    np.testing.assert_array_equal(frame["embedding"].to_numpy(), table.embeddings)
    assert frame["slide_id"].to_list() == table.slide_ids
    assert frame.filter(pl.col("mpp") < 0.4).height == N_SLIDES // 2
    assert frame["n_views"].null_count() == N_SLIDES - N_SLIDES // 3


def test_pandas_has_the_same_numbers() -> None:
    table = cohort()
    frame = table.to_pandas()
    np.testing.assert_array_equal(np.stack(list(frame["embedding"])), table.embeddings)
    assert frame["patient_id"].nunique() == N_SLIDES // 2


def test_anndata_holds_vectors_facts_labels_and_where_they_came_from() -> None:
    table = cohort()
    found = table.to_anndata(labels=labels())
    assert found.X.dtype == np.float32
    for vectors in (found.X, found.obsm["X_gigassl"]):
        np.testing.assert_array_equal(vectors, table.embeddings)
    assert found.obs_names.tolist() == table.slide_ids
    assert found.obs["subtype"].tolist() == labels()["subtype"].tolist()
    assert found.obs["subtype"].dtype == "category"
    assert found.obs["n_tiles"].tolist() == list(range(100, 100 + N_SLIDES))
    assert "embedding" not in found.obs
    assert found.uns["gigassl"]["settings_digest"] == "bb"
    assert json.loads(found.uns["gigassl"]["provenance"]) == table.provenance
    found.X[0, 0] = 7  # its own memory: the table cannot be changed through it
    assert table.embeddings[0, 0] != 7
    assert found.obsm["X_gigassl"][0, 0] != 7


def test_anndata_survives_its_file(tmp_path: Path) -> None:
    import anndata  # type: ignore[import-untyped]

    found = cohort().to_anndata(labels=labels())
    found.write_h5ad(tmp_path / "v.h5ad")
    back = anndata.read_h5ad(tmp_path / "v.h5ad")
    pd.testing.assert_frame_equal(back.obs, found.obs)
    np.testing.assert_array_equal(back.X, found.X)
    np.testing.assert_array_equal(back.obsm["X_gigassl"], found.obsm["X_gigassl"])
    assert back.uns["gigassl"] == found.uns["gigassl"]


@pytest.mark.slow  # compiles umap
@pytest.mark.filterwarnings("ignore")  # of scanpy's own dependencies
def test_scanpy_maps_it(tmp_path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import scanpy as sc  # type: ignore[import-untyped]

    found = cohort().to_anndata(labels=labels())
    sc.pp.neighbors(found, use_rep="X_gigassl", n_neighbors=5, metric="cosine", random_state=0)
    sc.tl.umap(found, random_state=0)
    axes = sc.pl.umap(found, color="subtype", show=False)
    axes.figure.savefig(tmp_path / "umap.png")
    places = found.obsm["X_umap"]
    assert places.shape == (N_SLIDES, 2)
    # the two groups lie apart on the map, as they do in the vectors
    groups = [places[(found.obs["subtype"] == name).to_numpy()] for name in ("luad", "lusc")]
    apart = np.linalg.norm(groups[0].mean(axis=0) - groups[1].mean(axis=0))
    assert apart > max(np.linalg.norm(g - g.mean(axis=0), axis=1).mean() for g in groups)
    assert (tmp_path / "umap.png").stat().st_size > 5_000


def test_labels_need_not_be_whole_and_what_lacks_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    some = pd.concat([labels().iloc[4:], pd.DataFrame({"slide_id": ["x", "y", "z"]})])
    with caplog.at_level(logging.WARNING, logger="gigassl"):
        found = cohort().to_anndata(labels=some.set_index("slide_id"))
    assert found.obs["subtype"].isna().sum() == 4
    assert found.obs["age"].isna().tolist() == [True] * 4 + [False] * (N_SLIDES - 4)
    assert "4 of 24 slides have none, 3 rows are of slides that the table lacks" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: pd.concat([f, f.iloc[:1]]), "name slide 's00' more than once"),
        (lambda f: f.rename(columns={"age": "mpp"}), "columns that the table has too: mpp"),
        (lambda f: f.assign(slide_id="a" + f["slide_id"]), "none of the 24 slides.*'s00'.*'as00'"),
        (lambda f: f.drop(columns="slide_id"), "none of the 24 slides"),
    ],
)
def test_labels_that_do_not_fit_are_refused(change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(SettingsError, match=said):
        cohort().to_anndata(labels=change(labels()))


@pytest.mark.parametrize(
    ("package", "method", "how"),
    [
        ("pandas", "to_pandas", "pip install pandas"),
        ("polars", "to_polars", "pip install polars"),
        ("anndata", "to_anndata", r"pip install 'gigassl\[anndata\]'"),
    ],
)
def test_what_is_not_installed_is_said(
    package: str, method: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as Python itself marks what is not there
    with pytest.raises(SettingsError, match=f"{method} needs {package}.*{how}"):
        getattr(cohort(), method)()


def blocks(language: str) -> Iterator[str]:
    yield from re.findall(rf"```{language}\n(.*?)```", DOCS, flags=re.DOTALL)


def test_the_sql_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_table(cohort(), tmp_path / "vectors.parquet")
    labels().to_csv(tmp_path / "clinical.csv", index=False)
    monkeypatch.chdir(tmp_path)
    ran = 0
    for block in blocks("sql"):
        for statement in block.split(";"):
            if statement.strip():
                found = duckdb.sql(statement)
                assert found is not None
                assert found.fetchall(), f"nothing comes of: {statement}"
                ran += 1
    assert ran >= 5


def test_the_python_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_table(cohort(), tmp_path / "vectors.parquet")
    labels().to_csv(tmp_path / "clinical.csv", index=False)
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    for block in blocks("python"):
        if "scanpy" not in block:  # has a test of its own above
            exec(compile(block, "docs/tables.md", "exec"), found)
    assert {"table", "adata"} <= set(found)


def test_neighbours_by_sql_are_those_of_the_vectors(tmp_path: Path) -> None:
    table = cohort()
    save_table(table, tmp_path / "vectors.parquet")
    (query,) = [block for block in blocks("sql") if "array_cosine_similarity" in block]
    query = query.replace("vectors.parquet", str(tmp_path / "vectors.parquet"))
    found = duckdb.sql(query)
    assert found is not None
    (name,) = re.findall(r"slide_id = '(\w+)'", query)
    likeness = table.embeddings @ table.vector(name)
    wanted = [table.slide_ids[k] for k in np.argsort(-likeness) if table.slide_ids[k] != name]
    got = [row[0] for row in found.fetchall()]
    assert got == wanted[: len(got)]
    assert len(got) == 5


def test_a_table_in_several_chunks_keeps_its_order() -> None:
    table = cohort()
    cut = pa.concat_tables([table.data.slice(0, 7), table.data.slice(7)])
    split = SlideTable(data=cut, provenance=table.provenance)
    np.testing.assert_array_equal(split.to_anndata().X, table.embeddings)
