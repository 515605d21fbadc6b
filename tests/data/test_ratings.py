"""Ratings from files as people have them."""

import gzip

import numpy as np
import pytest

from gflow.data import load_ratings
from gflow.errors import InputError

LINES = [("7", "a", "3"), ("9", "b", "4.5"), ("7", "b", "1"), ("8", "a", "2")]
TEXTS = {
    "u.data": "\n".join("\t".join([*line, "881250949"]) for line in LINES),
    "ratings.dat": "\n".join("::".join([*line, "881250949"]) for line in LINES),
    "ratings.csv": "\n".join(
        ["userId,movieId,rating,timestamp", *(",".join([*line, "8"]) for line in LINES)]
    ),
    "other.csv": "\n".join(
        ["when;score;item;User_ID", *(f"8;{v};{i};{u}" for u, i, v in LINES), "", ""]
    ),
    "plain.csv": "\n".join(["who,what,how much", *(",".join(line) for line in LINES)]),
}


@pytest.mark.parametrize("file", TEXTS)
def test_formats_hold_the_same_ratings(tmp_path, file):
    (tmp_path / file).write_text(TEXTS[file])
    is_table = file.endswith(".csv")
    ratings = load_ratings(tmp_path / file if is_table else f"movielens:{tmp_path / file}")
    assert ratings.shape == (3, 2)
    assert ratings.users == ("7", "9", "8")
    assert ratings.items == ("a", "b")
    assert ratings.rows.tolist() == [0, 1, 0, 2]
    assert ratings.columns.tolist() == [0, 1, 1, 0]
    assert ratings.values.tolist() == [3.0, 4.5, 1.0, 2.0]
    assert ratings.values.dtype == np.float64
    if not file.startswith(("other", "plain")):
        assert load_ratings(f"movielens:{tmp_path}").users == ratings.users


def test_names_with_separators_and_packed_files(tmp_path):
    file = tmp_path / "films.csv.gz"
    file.write_bytes(gzip.compress(b'user,item,rating\nAda,"Sleuth, The",5\n'))
    assert load_ratings(file).items == ("Sleuth, The",)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.csv", "user,item,rating\n1,2,x\n", r"line 2 of 'a.csv' .* got \['1', '2', 'x'\]"),
        ("a.csv", "1,2,3\n1,2\n", "line 2 of 'a.csv' must have a user"),
        ("a.csv", "1,2,inf\n", "at least one rating"),
        ("a.csv", "1,2\n", "three columns, users, items and ratings, got 2"),
        ("a.csv", "", "three columns"),
        ("a.csv", "a,b,c,d\n1,2,3,4\n", "name its columns user, item and rating"),
        ("a.csv", "user,item,rating\n", "at least one rating"),
        ("a.csv", "<!DOCTYPE html>", "web page"),
        ("a.npz", "", "movielens:PATH or a file ending in .csv"),
    ],
)
def test_other_files_are_refused(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message):
        load_ratings(tmp_path / file)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*missing\.csv"):
        load_ratings(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="unpack the archive"):
        load_ratings(f"movielens:{tmp_path}")
    with pytest.raises(InputError, match="a name or a path, got int"):
        load_ratings(3)
