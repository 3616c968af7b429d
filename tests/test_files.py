"""Points from anybody's file: the names people use, the ways they write, and their mistakes."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import points

from analysis.files import from_file
from analysis.fits import Settings
from analysis.headers import COLUMNS
from analysis.laws import SPREAD
from analysis.points import Points, group_means
from slam_core.errors import UsageError

PLAIN = {"n": "1e6", "d": "1e8", "c": "6e14", "loss": "3.5"}
CELLS = PLAIN | {
    "seed": "7",
    "family": "llama",
    "label": "one",
    "schedule": "wsd",
    "unique": "5e7",
    "epochs": "2",
    "init": "opt",
    "text": "3e9",
    "seconds": "60",
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def table(path: Path, rows: Sequence[Mapping[str, str]], delimiter: str = ",") -> Path:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return write(path, out.getvalue())


def taken(some: Points, role: str) -> object:
    """What became of the first row's cell of a role."""
    column = {
        "n": some.n,
        "d": some.d,
        "c": some.c,
        "loss": some.loss,
        "seed": some.seed,
        "family": some.family,
        "label": some.label,
        "schedule": some.schedule,
        "unique": some.unique,
        "epochs": some.unique,
        "init": some.init,
        "text": some.text,
        "seconds": some.seconds,
    }[role]
    assert column is not None
    return column[0]


SHAPES = ("layers", "width", "ffn", "context")


@pytest.mark.parametrize("role", SHAPES)
def test_every_name_of_a_shape_is_taken(tmp_path: Path, role: str) -> None:
    for name in COLUMNS[role]:
        some = from_file(table(tmp_path / "a.csv", [PLAIN | {name: "12"}]))
        assert f"{role} = {name}" in some.notes[0]


@pytest.mark.parametrize("role", [r for r, names in COLUMNS.items() if names and r not in SHAPES])
def test_every_name_of_every_column_is_taken(tmp_path: Path, role: str) -> None:
    """As it stands, in capitals, and with whatever people put between its letters."""
    words = ("family", "label", "schedule", "init")
    expected = CELLS[role] if role in words else 5e7 if role == "epochs" else float(CELLS[role])
    for name in COLUMNS[role]:
        for written in (name, name.upper(), "_".join(name), f" {name} (-)"):
            row = PLAIN | {role: CELLS[role]}
            row = {written if key == role else key: cell for key, cell in row.items()}
            some = from_file(table(tmp_path / "a.csv", [row]))
            assert taken(some, role) == expected, written
            assert f"{role} = {written}" in some.notes[0]


def test_no_name_means_two_things() -> None:
    names = [name for role in COLUMNS.values() for name in role]
    assert len(names) == len(set(names))
    assert all(name == "".join(filter(str.isalnum, name)).lower() for name in names)


def test_a_column_can_be_named_and_a_name_can_be_wrong(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [PLAIN | {"loss_c4": "3.1", "params": "2e6"}])
    with pytest.raises(UsageError, match=r"n and params could both be n; .* --column n=n"):
        from_file(path)
    some = from_file(path, {"loss": "loss_c4", "n": "params"})
    assert some.loss.tolist() == [3.1]
    assert some.n.tolist() == [2e6]
    with pytest.raises(UsageError, match="no column 'lost'; it has n, d, c, loss"):
        from_file(path, {"loss": "lost"})
    with pytest.raises(UsageError, match="no role 'size' for a column; there are n, d, c, loss"):
        from_file(path, {"size": "n"})


@pytest.mark.parametrize(
    ("name", "role", "times"),
    [
        ("Params (M)", "n", 1e6),
        ("params_m", "n", 1e6),
        ("N [k]", "n", 1e3),
        ("Parameters in millions", "n", 1e6),
        ("Tokens (B)", "d", 1e9),
        ("tokens_b", "d", 1e9),
        ("D_tokens (in billion)", "d", 1e9),
        ("unique_tokens_T", "unique", 1e12),
    ],
)
def test_a_magnitude_in_a_name_multiplies(
    tmp_path: Path, name: str, role: str, times: float
) -> None:
    cells = {"n": "1e6", "d": "1e8", "loss": "3", "unique": "1e7"}
    row = {name if key == role else key: "2.5" if key == role else cells[key] for key in cells}
    some = from_file(table(tmp_path / "a.csv", [row, row | {name: "1.5G"}]))
    assert taken(some, role) == 2.5 * times
    assert f"{role} = {name} times {times:,.0f}" in some.notes[0]
    column = {"n": some.n, "d": some.d, "unique": some.unique}[role]
    assert column is not None
    assert column[1] == 1.5e9  # a cell's own magnitude counts
    assert taken(from_file(tmp_path / "a.csv", {role: name}), role) == 2.5 * times


def test_the_ends_of_paths_are_names(tmp_path: Path) -> None:
    """As Weights & Biases exports them; a loss is named whole, or it may be that of training."""
    row = {"Name": "one", "model/num_params": "1e6", "config.tokens": "1e8", "val/loss": "3"}
    path = table(tmp_path / "a.csv", [row | {"train/loss": "2.9", "batch/size": "7", "x.d": "5"}])
    some = from_file(path)
    assert (some.n[0], some.d[0], some.loss[0], some.label) == (1e6, 1e8, 3, ("one",))
    with pytest.raises(UsageError, match="no column for loss; it has eval/c4_loss, train/loss"):
        from_file(table(path, [{"n": "1", "d": "2", "eval/c4_loss": "3", "train/loss": "2"}]))
    whole = from_file(table(path, [row | {"params": "2e6"}]))
    assert whole.n.tolist() == [2e6]
    with pytest.raises(UsageError, match=r"a/tokens and b.tokens could both be d"):
        from_file(table(path, [{"n": "1", "a/tokens": "2", "b.tokens": "3", "loss": "2"}]))


def test_what_only_looks_like_a_magnitude(tmp_path: Path) -> None:
    """A unit of time, a name of one letter, and a name beside a plain one."""
    row = PLAIN | {"seconds (m)": "60", "d_t": "7", "params_m": "9", "n_b": "5"}
    some = from_file(table(tmp_path / "a.csv", [row]), {"seconds": "seconds (m)"})
    assert some.seconds is not None
    assert (some.n[0], some.d[0], some.seconds[0]) == (1e6, 1e8, 60)
    assert "times" not in some.notes[0]
    assert from_file(tmp_path / "a.csv", {"d": "d_t"}, flops="6nd").d.tolist() == [7]


def test_n_without_embeddings_is_taken_where_there_is_no_other(tmp_path: Path) -> None:
    row = {"non_embedding_params": "8e5", "d": "1e8", "loss": "3"}
    path = table(tmp_path / "a.csv", [row])
    some = from_file(path)
    assert (some.n[0], some.params) == (8e5, "body")
    assert some.notes[-1] == "non_embedding_params: N counts the body, without embeddings"
    named = from_file(path, params="total")
    assert (named.params, named.flops) == ("total", "6nd")
    for name in ("params", "Params (k)"):
        both = from_file(table(path, [row | {name: "1000"}]))
        assert (both.n[0], both.params) == (1e3 if name == "params" else 1e6, "as given")


@pytest.mark.parametrize("column", ["non_embedding_params", "n"])
def test_c_of_an_n_without_embeddings_is_without_them_too(tmp_path: Path, column: str) -> None:
    """No such C stands beside one of 6 N D that counts all parameters."""
    row = {column: "8e5", "d": "1e8", "loss": "3"}
    path = table(tmp_path / "a.csv", [row])
    for asked in (None, "non-embedding"):
        assert from_file(path, params="body", flops=asked).flops == "6nd_body"
    own = table(tmp_path / "own.csv", [row | {"c": "4.8e14"}])
    assert from_file(own, params="body").flops == "6nd_body"
    no_d = table(tmp_path / "no_d.csv", [{column: "8e5", "c": "4.8e14", "loss": "3"}])
    assert from_file(no_d, params="body").flops == "6nd_body"
    shapes = row | {"layers": "2", "width": "64", "context": "512"}
    for asked, cells in (("6ND", row), ("causal", shapes)):
        with pytest.raises(UsageError, match=rf"counts the body, and {asked} all .* --column n="):
            from_file(table(path, [cells]), params="body", flops=asked)


def test_a_training_loss_is_taken_where_there_is_no_other(tmp_path: Path) -> None:
    row = {"n": "1e6", "d": "1e8", "train_loss": "3"}
    path = table(tmp_path / "a.csv", [row])
    some = from_file(path)
    assert some.loss.tolist() == [3]
    assert some.notes[-1] == "train_loss: the loss is that of training, not of validation"
    for name in ("loss (nats)", "test_nll", "val_loss"):
        other = from_file(table(path, [row | {name: "3.5"}]))
        assert other.loss.tolist() == [3.5]
        assert "training" not in " ".join(other.notes)
    with pytest.raises(UsageError, match="no column for loss; it has train_loss, loss_c4, n, d: "):
        from_file(table(path, [row | {"loss_c4": "3.5"}]))


@pytest.mark.parametrize("name", ["perplexity", "Val PPL", "valppl", "val_ppl_c4"])
def test_a_perplexity_is_read_as_its_logarithm(tmp_path: Path, name: str) -> None:
    row = {"n": "1e6", "d": "1e8", name: "20"}
    path = table(tmp_path / "a.csv", [row])
    if name == "val_ppl_c4":  # of one of several sets, perhaps: to be named
        with pytest.raises(UsageError, match="no column for loss"):
            from_file(path)
    some = from_file(path, {"loss": name})
    assert some.loss.tolist() == [np.log(20)]
    assert f"{name}: the loss is its logarithm" in some.notes
    assert from_file(table(path, [row | {"loss": "3.5"}])).loss.tolist() == [3.5]
    with pytest.raises(UsageError, match="loss"):
        from_file(table(path, [row | {name: "0"}]), {"loss": name})


def test_bits_per_byte_are_not_called_nats(tmp_path: Path) -> None:
    some = from_file(table(tmp_path / "a.csv", [{"n": "1e6", "d": "1e8", "bpb": "0.9"}]))
    assert some.loss.tolist() == [0.9]
    assert some.notes[-1] == "bpb: losses, E, A and B are in bits per byte, not in nats per unit"
    row = {"n": "1e6", "d": "1.5", "bits_per_token": "3.9"}
    some = from_file(table(tmp_path / "b.csv", [row]), {"loss": "bits_per_token"})
    assert "bits_per_token: losses, E, A and B are in bits, not in nats per unit" in some.notes[-1]
    assert "d: D is 1.5 at most, taken for units" in some.notes[-2]


def test_a_long_header_is_cut_behind_what_is_near(tmp_path: Path) -> None:
    row = {f"x{i}": "1" for i in range(20)} | {"n": "1", "loss_c4": "3", "Val Loss 2": "3"}
    path = table(tmp_path / "a.csv", [row | {"d": "1"}])
    with pytest.raises(UsageError) as caught:
        from_file(path)
    assert str(caught.value) == (
        f"{path} has no column for loss; it has loss_c4, Val Loss 2, x0, x1, x2, x3, x4, x5 "
        "and 16 more: name one with --column loss=NAME"
    )
    with pytest.raises(UsageError, match="no column 'loss_c'; it has loss_c4, Val Loss 2, x0, "):
        from_file(path, {"loss": "loss_c"})


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
def test_four_kinds_of_file_hold_the_same_points(tmp_path: Path, suffix: str) -> None:
    rows = [PLAIN | {"seed": "1"}, PLAIN | {"n": "2e6", "d": "5e7", "loss": "3.25", "seed": "2"}]
    path = tmp_path / f"a{suffix}"
    if suffix in (".csv", ".tsv"):
        table(path, rows, "\t" if suffix == ".tsv" else ",")
    else:
        numbers = [{key: float(cell) for key, cell in row.items()} for row in rows]
        lines = [json.dumps(row) for row in numbers]
        write(path, json.dumps(numbers) if suffix == ".json" else "\n\n".join(lines))
    some = from_file(path)
    assert some.name == "a"
    assert some.n.tolist() == [1e6, 2e6]
    assert some.d.tolist() == [1e8, 5e7]
    assert some.c.tolist() == [6e14, 6e14]
    assert some.loss.tolist() == [3.5, 3.25]
    assert some.seed == (1, 2)
    assert some.flops == "6nd"
    assert some.params == "as given"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("85M", 85e6),
        (" 1.3B ", 1.3e9),
        ("1.3b", 1.3e9),
        ("2 T", 2e12),
        ("70g", 70e9),
        ("502k", 502e3),
        ("8.5e7", 85e6),
        ("+85000000", 85e6),
    ],
)
def test_magnitudes(tmp_path: Path, written: str, value: float) -> None:
    path = table(tmp_path / "a.csv", [{"params": written, "tokens": "1B", "loss": "3"}])
    assert from_file(path).n.tolist() == [value]


@pytest.mark.parametrize(
    "cell", ["", "three", "85 million", "85MB", "M", "1,3", "1e6M", "0x10", "--", "1.2.3", "1_0"]
)
def test_a_cell_that_is_no_number_is_named_with_its_line(tmp_path: Path, cell: str) -> None:
    path = table(tmp_path / "a.csv", [PLAIN, PLAIN | {"d": cell}])
    with pytest.raises(UsageError) as caught:
        from_file(path)
    remedy = {
        "": ": fill it in, or leave such rows out (--where ",
        "1,3": ": write it with a decimal",
    }
    said = f"{path}, line 3: d is {cell!r}, not a number{remedy.get(cell, '')}"
    assert str(caught.value).startswith(said)
    assert cell in remedy or str(caught.value) == said


@pytest.mark.filterwarnings("error")
def test_a_column_of_nothing_but_nan_is_said_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,d,loss\nnan,nan,3\n")
    with pytest.raises(UsageError, match="n of row 2 is nan"):
        from_file(path)


@pytest.mark.parametrize("column", ["n", "d", "c", "loss"])
@pytest.mark.parametrize("cell", ["0", "-1", "nan", "inf", "-inf", "1e400"])
def test_a_number_that_can_be_none_of_a_run_is_refused(
    tmp_path: Path, column: str, cell: str
) -> None:
    path = table(tmp_path / "a.csv", [PLAIN, PLAIN | {column: cell}])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # arithmetic on it must not speak before we do
        with pytest.raises(UsageError, match=rf"a: {column} of row 3 is .* mend or drop the row"):
            from_file(path)
        for other in "dc":  # and where one of them follows from the rest
            rows = [{k: v for k, v in PLAIN.items() if k != other}] * 2
            rows[1] = rows[1] | {"n": cell}
            with pytest.raises(UsageError, match=r"n of row 3 is .* mend or drop the row"):
                from_file(table(path, rows))


@pytest.mark.parametrize("cell", [True, None, [1e8], {"d": 1}, "x", "", 10**400])
def test_a_json_value_that_is_no_number(tmp_path: Path, cell: object) -> None:
    good = {"n": 1e6, "d": 1e8, "loss": 3}
    rows = [good, good | {"d": cell}]
    path = write(tmp_path / "a.json", json.dumps(rows))
    with pytest.raises(UsageError, match=r"a\.json, row 2: d is .*, not a number"):
        from_file(path)
    path = write(tmp_path / "a.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    with pytest.raises(UsageError, match=r"a\.jsonl, line 3: d is .*, not a number"):
        from_file(path)


@pytest.mark.parametrize("role", ["loss", "seed", "epochs", "layers", "acc"])
def test_only_amounts_have_suffixes(tmp_path: Path, role: str) -> None:
    shape = {"layers": "6", "width": "64", "context": "128"}
    path = table(tmp_path / "a.csv", [PLAIN | shape | {"acc": "0.5"} | {role: "3M"}])
    with pytest.raises(UsageError, match=f"line 2: {role} is '3M', not a number"):
        from_file(path, flops="causal", scores=("acc",))


@pytest.mark.parametrize("role", ["n", "d", "unique", "text", "seconds"])
def test_every_amount_has_suffixes(tmp_path: Path, role: str) -> None:
    name = COLUMNS[role][0]
    some = from_file(table(tmp_path / "a.csv", [PLAIN | {name: "3M"}]), flops="6nd")
    assert taken(some, role) == 3e6


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    """After a quoted newline, an empty line, and rows that `where` leaves out."""
    text = 'n,d,loss,note\n1e6,1e8,3,"two\nlines"\n\n1e6,1e8,3,kept\n1e6,x,3,kept\n'
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(UsageError, match="line 6: d is 'x'"):
        from_file(path)
    with pytest.raises(UsageError, match="line 6: d is 'x'"):
        from_file(path, where={"note": "kept"})
    path = write(tmp_path / "a.csv", text.replace("x", "-1"))
    with pytest.raises(UsageError, match=r"d of row 6 is -1\.0"):
        from_file(path, where={"note": "kept"})


def test_a_byte_order_mark_and_quoted_newlines_are_no_part_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffn,d,loss,"a\nnote"\r\n1e6,1e8,3.5,"x\r\ny"\r\n'.encode())
    some = from_file(path)
    assert some.n.tolist() == [1e6]
    assert some.notes[0] == "columns of a.csv: n = n, d = d, loss = loss"


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_semicolons_are_seen(tmp_path: Path, suffix: str) -> None:
    some = from_file(table(tmp_path / f"a{suffix}", [PLAIN, PLAIN | {"loss": "3.4"}], ";"))
    assert some.loss.tolist() == [3.5, 3.4]
    assert some.notes[1] == f"a{suffix} looks separated by semicolons, and is read so"
    written = [("85,5M", 85.5e6), ("1,5e6", 1.5e6), (" 2000000 ", 2e6)]
    comma = [PLAIN | {"n": n, "loss": "3,25", "label": "a,b"} for n, _ in written]
    some = from_file(table(tmp_path / f"a{suffix}", comma, ";"), flops="6nd")
    assert some.n.tolist() == [n for _, n in written]
    assert some.loss.tolist() == [3.25] * 3
    assert some.label[0].startswith("a,b")
    with pytest.raises(UsageError, match="n is '1,000,000', not a number: write it with a decimal"):
        from_file(table(tmp_path / f"a{suffix}", [PLAIN | {"n": "1,000,000"}], ";"))
    noted = table(tmp_path / "b.csv", [PLAIN | {"note;": "x;y"}])
    assert len(from_file(noted).notes) == 1


def test_comments_before_the_header_are_skipped(tmp_path: Path) -> None:
    text = "# of a paper, Table 5\n#\nn,d,loss,label\n1e6,1e8,3.5,#1\n1e6,x,3.5,#2\n"
    with pytest.raises(UsageError, match="line 5: d is 'x'"):
        from_file(write(tmp_path / "a.csv", text))
    some = from_file(write(tmp_path / "a.csv", text.replace("x", "2e8")))
    assert some.label == ("#1", "#2")
    assert some.d.tolist() == [1e8, 2e8]
    saved = from_file(write(tmp_path / "a.csv", "# by numpy\n# n,d,loss\n1e6,1e8,3.5\n"))
    assert saved.notes[0] == "columns of a.csv: n = # n, d = d, loss = loss"
    assert saved.n.tolist() == [1e6]


def test_ragged_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 3: more cells than the header has columns"):
        from_file(write(tmp_path / "a.csv", "n,d,loss\n1,2,3\n1,2,3,4\n"))
    with pytest.raises(UsageError, match="line 3: loss is None, not a number"):
        from_file(write(tmp_path / "a.csv", "n,d,loss\n1,2,3\n1,2\n"))
    with pytest.raises(UsageError, match="line 2: d is None, not a number"):
        from_file(write(tmp_path / "a.jsonl", '{"n":1,"d":2,"loss":3}\n{"n":1,"loss":3}\n'))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "has no rows; it needs a header and one row a run"),
        ("a.csv", "n,d,loss\n", "has no rows"),
        ("a.csv", "n,d,loss,loss\n1,2,3,4\n", "several columns 'loss'"),
        ("a.csv", 'n,d,loss\n"1,2,3\n', "is no CSV: unexpected end of data"),
        ("a.csv", "n;d;loss\n1;2;3,5,1\n", "line 2: loss is '3,5,1', not a number"),
        ("a.csv", "x;y\n1;2\n", "no column for n; it has x, y"),
        ("a.csv", "# n,d,loss\n", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.json", '{"n": 1}', "has to hold a list of objects"),
        ("a.json", "[1, 2]", "has to hold objects"),
        ("a.json", "[", "is no JSON: "),
        ("a.jsonl", '{"n": 1}\n{x\n', "line 2, is no JSONL: "),
        ("a.jsonl", "3\n", "has to hold objects"),
        ("a.csv", "n,d,loss,seed\n1,2,3,1.5\n", "line 2: seed is 1.5, not a whole number"),
        ("a.csv", "n,d,loss,seed\n1,2,3,nan\n", "line 2: seed is nan, not a whole number"),
    ],
)
def test_a_file_that_cannot_be_meant(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_file(write(tmp_path / name, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*no: No such file"):
        from_file(tmp_path / "no")
    (tmp_path / "a.csv").write_bytes(b"n,d,loss\n\xff\xfe")
    with pytest.raises(UsageError, match=r"is no text in UTF-8 \(byte 10 is 0xff\): save it as"):
        from_file(tmp_path / "a.csv")


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet='nd,los"1e6\n\t;x.-∞', max_size=60), json_too=st.booleans())
def test_whatever_is_in_it_a_file_gives_points_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str, json_too: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / ("any.json" if json_too else "any.csv")
    try:
        some = from_file(write(path, text if json_too else f"n,d,loss\n{text}"))
    except UsageError:
        return
    assert (some.n > 0).all()
    assert np.isfinite(some.loss).all()


# What N, D and C are.


def test_data_follow_from_flops_and_flops_from_data(tmp_path: Path) -> None:
    by_c = from_file(table(tmp_path / "c.csv", [{"n": "2e6", "flops": "6e14", "loss": "3"}]))
    assert by_c.d.tolist() == [5e7]
    assert by_c.notes[1] == "no column of tokens: D = C/(6N)"
    by_d = from_file(table(tmp_path / "d.csv", [{"n": "2e6", "d": "5e7", "loss": "3"}]))
    assert by_d.c.tolist() == [6e14]
    assert by_d.notes[1] == "no column of FLOPs: C = 6ND"
    assert by_c.flops == by_d.flops == "6nd"
    with pytest.raises(UsageError, match=r"no column for d or c; .* --column d=NAME"):
        from_file(table(tmp_path / "n.csv", [{"n": "2e6", "loss": "3"}]))


def test_what_cannot_be_flops_is_refused(tmp_path: Path) -> None:
    """PF-days, a constant beside N and D, and a factor of 10 and a little more."""
    rows = [PLAIN | {"n": n, "c": c} for n, c in (("1e6", "6.9e-6"), ("2e6", "1.4e-5"))]
    path = table(tmp_path / "a.csv", rows)
    said = (
        f"{path}: C/(6ND) is 1.15e-20 to 1.17e-20 where C = c, which so cannot be the FLOPs of "
        "these N and D: compute C with --convention 6ND, or name another column with --column "
        "c=NAME"
    )
    for flops in (None, "exact"):
        with pytest.raises(UsageError) as caught:
            from_file(path, flops=flops)
        assert str(caught.value) == said
    assert from_file(path, flops="6ND").c.tolist() == [6e14, 12e14]
    constant = [PLAIN | {"n": n, "c": "1e15"} for n in ("1e5", "1e6", "1e7")]
    with pytest.raises(UsageError, match=r"C/\(6ND\) is 0\.167 to 16\.7 where C = c, "):
        from_file(table(path, constant))
    for near in ("6.1e13", "5.9e15"):
        assert from_file(table(path, [PLAIN | {"c": near}])).flops == "as given"
    for far in ("5.9e13", "6.1e15"):
        with pytest.raises(UsageError, match=r"C/\(6ND\) is [\d.]+ where C = c, "):
            from_file(table(path, [PLAIN | {"c": far}]))


def test_flops_that_leave_no_token_are_refused(tmp_path: Path) -> None:
    rows = [{"n": "1e6", "compute": c, "loss": "3"} for c in ("6e14", "5.9e6")]
    path = table(tmp_path / "a.csv", rows)
    with pytest.raises(UsageError, match=r"D = C/\(6N\) is 0\.983 to 1e\+08 where C = compute, "):
        from_file(path)
    rows[1]["compute"] = "6e6"
    assert from_file(table(path, rows)).d.tolist() == [1e8, 1]


def test_flops_of_their_own_keep_their_name(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [PLAIN, PLAIN | {"c": "9e14"}])
    own = from_file(path)
    assert own.c.tolist() == [6e14, 9e14]
    assert own.flops == "as given"
    assert from_file(path, flops="Attention").flops == "attention"
    six = from_file(path, flops="6ND")
    assert six.c.tolist() == [6e14, 6e14]
    assert six.flops == "6nd"
    assert six.notes[1] == "C = 6ND; the file's own differs by up to 50.0%"
    same = from_file(table(path, [PLAIN, PLAIN | {"c": "6.0000001e14"}]))
    assert same.flops == "6nd"
    assert same.c[1] == 6.0000001e14
    assert len(same.notes) == 2  # and that two rows are alike


@pytest.mark.parametrize("other", ["exact", "causal", "non-embedding", "attention"])
def test_a_convention_that_a_file_cannot_follow_is_refused(tmp_path: Path, other: str) -> None:
    no_c = table(tmp_path / "a.csv", [{"n": "1e6", "d": "1e8", "loss": "3"}])
    with pytest.raises(UsageError, match=rf"no column of FLOPs, so C = 6ND, not {other}; .*c=NAME"):
        from_file(no_c, flops=other)
    no_d = table(tmp_path / "a.csv", [{"n": "1e6", "c": "6e14", "loss": "3"}])
    with pytest.raises(UsageError, match=rf"is 6ND, not {other}; .* --column d=NAME"):
        from_file(no_d, flops=other)


def test_unknown_conventions_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [PLAIN])
    with pytest.raises(UsageError, match="no FLOP convention '7ND'; there are 6nd"):
        from_file(path, flops="7ND")
    with pytest.raises(UsageError, match="no parameter convention 'some'"):
        from_file(path, params="some")
    assert from_file(path, params="Non-Embedding").params == "body"


def test_a_loss_may_be_missing_only_where_it_is_not_needed(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [{"n": "1e6", "d": "1e8", "acc": "0.5"}])
    with pytest.raises(UsageError, match="no column for loss; it has n, d, acc"):
        from_file(path)
    some = from_file(path, scores=("acc",), loss_needed=False)
    assert some.loss.tolist() == [1.0]
    assert some.scores["acc"].tolist() == [0.5]


# Rows: which are kept, which are runs, which are curves.


def test_where_keeps_rows_and_says_what_there_is(tmp_path: Path) -> None:
    rows = [PLAIN | {"task": task, "mode": mode} for task in "ab" for mode in ("train", "eval")]
    path = table(tmp_path / "a.csv", rows)
    kept = from_file(path, where={"task": "a"})
    assert len(kept) == 2
    mixed = "task has 2 values, whose losses do not compare: --where task=a keeps those of one"
    assert mixed in from_file(path).notes
    assert mixed not in from_file(path, columns={"family": "task"}).notes
    assert not any("do not compare" in note for note in kept.notes)
    states = [PLAIN | {"State": state, "loss": "3.25"} for state in ("crashed", "finished")]
    states += [PLAIN | {"State": "crashed"}]
    notes = from_file(table(tmp_path / "b.csv", states)).notes
    assert any("State has 2 values" in note for note in notes)
    assert any("--where State=finished keeps those of one" in note for note in notes)
    assert from_file(path, where={"task": "b", "mode": "eval"}).label == ("row 5",)
    with pytest.raises(UsageError, match="no row has task = c; there are a, b"):
        from_file(path, where={"task": "c"})
    with pytest.raises(UsageError, match="no column 'kind'"):
        from_file(path, where={"kind": "a"})


def test_rows_of_one_label_are_the_curve_of_one_run(tmp_path: Path) -> None:
    rows = [
        {"run": run, "n": n, "d": d, "loss": "3", "schedule": "cosine"}
        for run, n in (("a", "1e6"), ("b", "2e6"))
        for d in ("1e8", "3e8", "2e8")
    ]
    some = from_file(table(tmp_path / "a.csv", rows))
    assert some.run == ("a", "a", "a", "b", "b", "b")
    assert some.ended == (False, True, False) * 2
    assert some.label[1] == "a at D = 3e+08"
    assert some.notes[-1] == "2 runs with several points each: training curves"
    assert [rows.tolist() for rows in some.drawn_together] == [[0, 1, 2], [3, 4, 5]]
    assert some.settled.label == ("a at D = 3e+08", "b at D = 3e+08")


def test_a_label_that_several_sizes_or_seeds_share_is_no_run(tmp_path: Path) -> None:
    study = [{"name": "study", "n": n, "d": d, "loss": "3"} for n, d in (("1", "2"), ("2", "3"))]
    some = from_file(table(tmp_path / "a.csv", study))
    assert some.run == ()
    assert some.ended == ()
    assert some.label == ("study (row 2)", "study (row 3)")
    seeds = [{"name": "85M", "n": "85M", "d": "1B", "seed": s, "loss": f"3.{s}"} for s in "01"]
    some = from_file(table(tmp_path / "a.csv", seeds))
    assert some.run == ()
    assert some.label == ("85M seed 0", "85M seed 1")
    assert [cell.tolist() for cell in some.cells] == [[0, 1]]


@pytest.mark.parametrize(
    ("seeds", "d", "cells"),
    [
        ("0101", ("1e9", "1.0001e9", "2e9", "1.9998e9"), [[0, 1], [2, 3]]),
        ("0001", ("1e9", "1.0001e9", "2e9", "1.9998e9"), [[0], [1], [2, 3]]),
        ("", ("1e9", "1.0001e9", "2e9", "2e9"), [[0], [1], [2, 3]]),
    ],
)
def test_seeds_of_one_cell_differ_by_rounding_at_most(
    seeds: str, d: tuple[str, ...], cells: list[list[int]], tmp_path: Path
) -> None:
    rows = [{"n": "1e6", "d": units, "loss": f"3.{i}"} for i, units in enumerate(d)]
    for row, seed in zip(rows, seeds, strict=False):
        row["seed"] = seed
    some = from_file(table(tmp_path / "a.csv", rows))
    assert [cell.tolist() for cell in some.cells] == cells


def test_the_seeds_of_one_label_are_runs_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"run": run, "n": "1e6", "d": d, "seed": seed, "loss": "3"}
        for run, seeds in (("a", "01"), ("b", "0"))
        for seed in seeds
        for d in ("1e8", "2e8")
    ]
    some = from_file(table(tmp_path / "a.csv", rows))
    assert some.run == ("a seed 0", "a seed 0", "a seed 1", "a seed 1", "b", "b")
    assert some.ended == (False, True) * 3
    assert some.notes[-2] == "3 runs with several points each: training curves"


def test_curves_of_an_unknown_schedule_are_doubted(tmp_path: Path) -> None:
    rows = [{"run": "a", "n": "1e6", "d": d, "loss": "3", "decay": "wsd"} for d in ("1e8", "2e8")]
    path = table(tmp_path / "a.csv", rows)
    assert "--column schedule=NAME" in from_file(path).notes[-1]
    assert "schedule =" not in " ".join(from_file(path).notes)
    assert "may be among them" not in " ".join(from_file(path, {"schedule": "decay"}).notes)
    ends = [row | {"run": run} for row, run in zip(rows, "ab", strict=True)]
    assert "may be among them" not in " ".join(from_file(table(path, ends)).notes)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_rows_that_repeat_another_are_one_run(tmp_path: Path, suffix: str) -> None:
    other = PLAIN | {"loss": "3.4"}
    path, rows = tmp_path / f"a.{suffix}", [PLAIN, PLAIN, other, PLAIN]
    if suffix == "csv":
        table(path, rows)
    else:
        numbers = [{key: float(cell) for key, cell in row.items()} for row in rows]
        write(path, json.dumps([numbers[0], dict(reversed(numbers[1].items())), *numbers[2:]]))
    some = from_file(path)
    assert some.loss.tolist() == [3.5, 3.4]
    assert some.notes[1] == (
        "2 rows left out (they repeat another in every column; runs of other seeds that agree "
        "take a column of seeds)"
    )
    assert len(from_file(table(tmp_path / "b.csv", [PLAIN, other])).notes) == 1
    seeds = [PLAIN | {"seed": seed} for seed in "01"]
    some = from_file(table(tmp_path / "c.csv", [*seeds, other | {"seed": "0"}]))
    assert len(some) == 3
    assert some.notes[-1] == "1 rows have the N, D and loss of another: each counts"


def test_epochs_give_the_distinct_units(tmp_path: Path) -> None:
    rows = [PLAIN | {"epochs": epochs} for epochs in ("0.5", "1", "4")]
    some = from_file(table(tmp_path / "a.csv", rows))
    assert some.unique is not None
    assert some.unique.tolist() == [1e8, 1e8, 2.5e7]
    assert any("1 of 3 runs see their data more than once (at most 4.0" in x for x in some.notes)
    both = from_file(table(tmp_path / "a.csv", [PLAIN | {"epochs": "4", "unique": "3e7"}])).unique
    assert both is not None
    assert both.tolist() == [3e7]


def test_scores_are_shares_or_per_cent_and_may_be_missing(tmp_path: Path) -> None:
    rows = [PLAIN | {"a": a, "b": b} for a, b in (("55.5", "0.555"), ("", ""), ("0.9", "1"))]
    some = from_file(table(tmp_path / "a.csv", rows), scores=("a", "b"))
    assert some.scores["a"].tolist() == pytest.approx([0.555, np.nan, 0.009], nan_ok=True)
    assert some.scores["b"].tolist() == pytest.approx([0.555, np.nan, 1.0], nan_ok=True)
    with pytest.raises(UsageError, match="no column 'other'"):
        from_file(tmp_path / "a.csv", scores=("other",))
    with pytest.raises(UsageError, match="line 2: a is 'x', not a number"):
        from_file(table(tmp_path / "a.csv", [PLAIN | {"a": "x"}]), scores=("a",))


def test_settings_read_a_file_as_asked(tmp_path: Path) -> None:
    rows = [PLAIN | {"task": task, "opt": opt, "x": "2"} for task in "ab" for opt in ("p", "q")]
    path = table(tmp_path / "a.csv", rows)
    asked = Settings(str(path), columns=(("loss", "x"),), where=(("task", "b"),), arm="opt")
    some = asked.points(tmp_path)
    assert some.loss.tolist() == [2.0, 2.0]
    assert some.family == ("p", "q")
    assert asked.name == "a"
    for wrong in (Settings(str(path), corpus="x"), Settings(str(path), curves=True)):
        with pytest.raises(UsageError, match="go with results, not with a file of points"):
            wrong.points(tmp_path)


# Points.


def test_points_are_taken_with_all_their_columns() -> None:
    some = Points(
        name="p",
        n=np.array([1.0, 2.0, 3.0]),
        d=np.array([4.0, 5.0, 6.0]),
        c=np.array([24.0, 60.0, 108.0]),
        loss=np.array([3.0, 2.0, 1.0]),
        params="total",
        flops="6nd",
        label=("x", "y", "z"),
        seed=(7, 8, 9),
        text=np.array([0.0, 1.0, 2.0]),
        scores={"s": np.array([0.1, 0.2, 0.3])},
        corpus="c",
        notes=("note",),
    )
    twice = some.take(np.array([2, 0, 2]))
    assert twice.n.tolist() == [3, 1, 3]
    assert twice.label == ("z", "x", "z")
    assert twice.seed == (9, 7, 9)
    assert twice.text is not None
    assert twice.text.tolist() == [2, 0, 2]
    assert twice.scores["s"].tolist() == [0.3, 0.1, 0.3]
    assert (twice.name, twice.corpus, twice.notes, twice.family) == ("p", "c", ("note",), ())
    assert some.where([False, True, False]).label == ("y",)
    assert some.ratio == (2.0, 4.0)
    assert len(some) == 3


def test_a_schedule_is_settled_at_its_end_or_while_it_is_steady() -> None:
    some = points(np.full(6, 1e6), np.arange(1, 7) * 1e8, np.arange(6, 0, -1) / 2)
    schedules = ("cosine", "cosine", "wsd", "linear", "", "constant")
    ended = (False, True, False, False, False, False)
    mixed = replace(some, schedule=schedules, ended=ended)
    assert mixed.settled.schedule == ("cosine", "wsd", "", "constant")
    (note,) = mixed.settled.notes
    assert note.startswith("2 points in the middle of a cosine or linear schedule left out")
    assert "--mid-schedule" in note
    unknown = replace(some, schedule=schedules)
    assert unknown.settled is unknown
    assert some.settled is some


def test_runs_declared_with_one_budget_stay_together() -> None:
    some = points(np.array([1e6, 1e6, 1e7, 1e7]), np.array([1e8, 1.1e8, 1e8, 3e8]), np.ones(4))
    assert some.budget[0] == some.budget[1] == pytest.approx(6e14 * 1.1**0.5)
    assert some.budget[2] != some.budget[3]
    declared = replace(some, declared=(1.0, 2.0, 2.0, 1.0))
    assert declared.budget[0] == declared.budget[3] == pytest.approx((6e14 * 18e15) ** 0.5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=20))
def test_groups_are_spread_apart_whatever_the_order(values: list[float]) -> None:
    means, group = group_means(np.array(values))
    for g in set(group.tolist()):
        inside = np.array(values)[group == g]
        assert inside.max() < SPREAD * inside.min()
        assert means[group == g] == pytest.approx(np.exp(np.log(inside).mean()))
    order = np.random.default_rng(len(values)).permutation(len(values))
    again, _ = group_means(np.array(values)[order])
    assert again == pytest.approx(means[order])


def test_shapes_in_a_file_count_attention(tmp_path: Path) -> None:
    """Cuervo & Marxer's 20M: 6N + 12 L d T and its causal half, as in their released code."""
    path = tmp_path / "s.csv"
    path.write_text("params,tokens,loss,layers,d_model,context\n20710912,1e9,2.5,6,512,2050\n")
    full = from_file(path, flops="attention")
    assert full.c.tolist() == [199836672e9]
    assert full.flops == "attention"
    assert from_file(path, flops="causal").c.tolist() == [162051072e9]
    assert "C counted from layers, width, context" in full.notes
    path.write_text("params,tokens,loss,layers\n20710912,1e9,2.5,6\n")
    with pytest.raises(UsageError, match="--column c=NAME, or layers, width, context to count by"):
        from_file(path, flops="causal")


def test_encoders_are_counted_with_their_front_end(tmp_path: Path) -> None:
    """Designs of Liu et al. 2024 at their own steps have equal FLOPs, which 6ND does not see."""
    from analysis.published import table

    rows = [row for row in table("ssl_isoflop_designs") if row["pct_label"] != "1582 (large,w2v)"]
    path = tmp_path / "e.csv"
    lines = [
        f"{row['params_derived']},{float(str(row['max_update_released'])) * 155},3,"
        f"{row['layers']},{row['d']},{row['ffn']}"
        for row in rows
    ]
    path.write_text("\n".join(["params,seconds of audio,loss,layers,embed_dim,ffn", *lines]) + "\n")
    read = from_file(path, {"d": "seconds of audio"}, flops="encoder")
    assert np.ptp(read.c) / read.c.mean() < 0.003
    six = from_file(path, {"d": "seconds of audio"})
    assert six.c.max() > 5 * six.c.min()
    path.write_text("params,seconds,loss\n1e6,1e5,3\n")
    with pytest.raises(UsageError, match="no columns of layers, width, ffn and seconds of audio"):
        from_file(path, {"d": "seconds"}, flops="encoder")
