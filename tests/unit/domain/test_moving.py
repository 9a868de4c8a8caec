"""What fits from one catalog into another, what is replaced on the way, and what a digest sees."""

import pytest

from everbell.domain.moving import (
    PARTS,
    Digest,
    Move,
    Part,
    Shape,
    decode_move,
    digester,
    encode_move,
    fitting,
    shapes,
)

SHAPE = Shape(
    Part("runs", "runs", "id"),
    ("id", "text", "flag", "data", "share", "words"),
    ("bigint", "text", "boolean", "bytea", "double precision", "text[]"),
)
ROW = (1, "ä", 1, b"\x00\xff", 2, "a b")


def catalogs():
    source = {part.table: {"id": None} for part in PARTS} | {"definitions": {"definition": None}}
    target = {part.name: {"id": "bigint"} for part in PARTS}
    target["definitions"] = {"definition": "text"}
    return source, target


def test_catalogs_that_fit_have_nothing_to_say():
    found, wrong = shapes(*catalogs())
    assert wrong == []
    assert [shape.part for shape in found] == list(PARTS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s, t: s["holds"].update(new=None), "holds.new would be lost"),
        (lambda s, t: s.update(novel={"id": None}), "novel.id would be lost"),
        (lambda s, t: t["holds"].update(new="text"), "holds.new of the target has no source"),
        (lambda s, t: t.update(novel={"id": "bigint"}), "nobody knows what becomes of novel"),
        (lambda s, t: t.pop("holds"), "the target has no table holds"),
        (lambda s, t: t["holds"].update(id="jsonb"), "holds.id of the target is of the kind"),
    ],
)
def test_a_column_or_table_that_nobody_thought_of_is_said_not_lost(change, said):
    source, target = catalogs()
    change(source, target)
    _, wrong = shapes(source, target)
    assert any(said in one for one in wrong), wrong


def test_columns_that_only_nodes_of_the_target_fill_stay_unset():
    source, target = catalogs()
    target["nodes"]["presence"] = "bigint"
    found, wrong = shapes(source, target)
    assert wrong == []
    [nodes] = [shape for shape in found if shape.part.name == "nodes"]
    assert nodes.columns == ("id",)


def test_rows_become_what_the_target_stores():
    rows, replaced = fitting(SHAPE)([ROW, (2, None, None, None, None, None)])
    assert rows == [[1, "ä", True, b"\x00\xff", 2.0, ["a", "b"]], [2, *[None] * 5]]
    assert replaced == 0


@pytest.mark.parametrize(
    ("text", "new"), [("a\0b", "a\ufffdb"), ("\ud800", "?"), ("\0ä", "\ufffdä")]
)
def test_what_can_not_be_stored_is_replaced_and_counted(text, new):
    rows, replaced = fitting(SHAPE)([(1, text, 0, b"", 0.0, "")])
    assert rows[0][1] == new
    assert replaced == 1


def test_a_digest_counts_rows_and_knows_no_order():
    add = digester(SHAPE)
    rows, _ = fitting(SHAPE)([ROW, (2, "b", 0, b"", 0.5, "")])
    whole = add(Digest(), rows)
    assert whole == add(add(Digest(), rows[1:]), rows[:1])
    assert whole.rows == 2
    assert len(whole.text) == 16
    for column, other in enumerate((9, "o", False, b"o", 1.5, ["a"])):
        changed = [list(rows[0]), rows[1]]
        changed[0][column] = other
        assert add(Digest(), changed) != whole, column


def test_a_mark_that_nobody_can_read_is_none():
    move = Move(id="1", source="a", target="b", at_us=5, state="moved")
    assert decode_move(encode_move(move)) == move
    assert decode_move(None) is None
    assert decode_move("{}") is None
    assert decode_move("later") is None
