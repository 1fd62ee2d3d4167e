"""A model is a folder, a preset or a hub name, and always pinned."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.errors import UsageError
from site_client.engines.choose import EngineChoice, open_engine
from site_client.engines.models import LocalModel, folder_digest, presets, short_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "My_Model 2B"
    made.mkdir()
    (made / "config.json").write_text('{"max_position_embeddings": 4096}')
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "README.md").write_text("not part of it")
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache as the hub's own client lays it out."""
    import huggingface_hub.constants

    root = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(root))
    snapshot = root / "models--org--Some-Model-7B" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    return root


def test_a_folder_is_pinned_by_its_content(folder: Path) -> None:
    model = LocalModel.find(str(folder))
    assert model.name == "my-model-2b" and model.revision == f"sha256:{folder_digest(folder)}"
    (folder / "README.md").write_text("other words")
    assert LocalModel.find(str(folder)).revision == model.revision
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert LocalModel.find(str(folder)).revision != model.revision


def test_a_folder_of_another_revision_is_refused(folder: Path) -> None:
    digest = folder_digest(folder)
    assert LocalModel.find(str(folder), digest[:10]).path == folder
    with pytest.raises(UsageError, match=f"has the digest {digest[:12]}, not 000000"):
        LocalModel.find(str(folder), "000000")


def test_a_folder_that_is_not_there_is_told_with_the_presets(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        LocalModel.find(str(tmp_path / "none"))
    assert "There is no model folder" in error.value.message and "qwen2-7b" in str(error.value.hint)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no model"):
        LocalModel.find(str(tmp_path / "empty"))


def test_a_hub_name_needs_its_commit(cache: Path) -> None:
    for revision in (None, "main", COMMIT[:8]):
        with pytest.raises(UsageError, match="needs the commit that is meant"):
            LocalModel.find("org/Some-Model-7B", revision)
    found = LocalModel.find(f"org/Some-Model-7B@{COMMIT}")
    assert (found.name, found.revision) == ("some-model-7b", COMMIT) and found.path.name == COMMIT
    assert LocalModel.find("org/Some-Model-7B", COMMIT) == found


def test_a_hub_model_that_is_not_on_this_machine_is_never_fetched(cache: Path) -> None:
    with pytest.raises(UsageError) as error:
        LocalModel.find("qwen2-7b")
    assert "Qwen/Qwen2-7B-Instruct at revision f2826a00ceef is not on this machine" in error.value.message
    assert "hf download Qwen/Qwen2-7B-Instruct --revision f2826a00ceef68f0f2b946d945ecc0477ce4450c" in str(
        error.value.hint
    )
    with pytest.raises(UsageError, match="at revision 999999999999 is not on this machine"):
        LocalModel.find("org/Some-Model-7B", "9" * 40)


def test_the_papers_four_and_current_ones_are_presets() -> None:
    paper = {p.hub for p in presets().values() if p.paper}
    assert paper == {
        "meta-llama/Llama-3.1-8B-Instruct",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "Qwen/Qwen2-7B-Instruct",
        "google/gemma-2-9b-it",
    }
    assert len(presets()) > 6 and all(len(p.revision) == 40 for p in presets().values())
    assert presets()["qwen3-8b"].template == {"enable_thinking": False}
    assert all(short_name(name) == name for name in presets())


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (EngineChoice(engine="rules", model="x"), "has no model"),
        (EngineChoice(engine="vllm"), "--engine vllm needs --model"),
        (EngineChoice(engine="openai", endpoints=("http://127.0.0.1:1",)), "--engine openai needs --model"),
        (EngineChoice(engine="rules", endpoints=("http://127.0.0.1:1",)), "--endpoint goes with --engine openai"),
        (EngineChoice(engine="openai", model="m"), "No endpoint is given"),
    ],
)
def test_options_that_do_not_go_together_are_told(choice: EngineChoice, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=told):
        open_engine(choice, log=tmp_path / "log")
