"""The newcomer's four questions have one file each as their answer."""

from __future__ import annotations

import ast

from tests_support import REPOSITORY, source_files


def _constructed_in(name: str) -> set[str]:
    found: set[str] = set()
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _called(node) == name:
                found.add(str(path.relative_to(REPOSITORY)))
    return found


def _called(node: ast.Call) -> str | None:
    """Last part of what is called: ``RawNote`` of ``RawNote(...)`` and of ``note_types.RawNote(...)``."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def test_calls_through_a_module_count_too() -> None:
    calls = [n for n in ast.walk(ast.parse("RawNote(); note_types.RawNote(); f()()")) if isinstance(n, ast.Call)]
    assert sorted(str(_called(c)) for c in calls) == ["None", "RawNote", "RawNote", "f"]


def test_raw_notes_are_built_by_the_readers_alone() -> None:
    found = _constructed_in("RawNote")
    assert found, "RawNote is built nowhere: this test looks for the wrong name"
    assert all(name.startswith("site_client/notes/") for name in found), found


def test_clean_notes_come_from_deidentification_or_the_store() -> None:
    assert _constructed_in("CleanNote") == {"privacy/deidentify.py", "site_client/store.py"}


def test_local_updates_become_replies_in_the_exit_alone() -> None:
    assert _constructed_in("TrainReply") == {"site_client/egress.py"}


def test_updates_are_averaged_in_one_place() -> None:
    assert _constructed_in("WeightedMean") <= {"server/rounds.py"}


def test_notes_become_tokens_in_one_place_at_a_site() -> None:
    callers = {
        str(path.relative_to(REPOSITORY))
        for path in source_files()
        if path.parts[-2] == "site_client"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _called(node) == "tokenizer"
    }
    assert callers == {"site_client/corpus.py"}
