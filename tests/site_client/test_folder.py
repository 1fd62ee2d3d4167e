from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocols.errors import UsageError
from protocols.messages import SiteLimits
from site_client.folder import SiteConfig, SiteFolder

CONFIG = SiteConfig(name='Saint "Anne"\\ #1 - Köln', number=12, limits=SiteLimits(min_patients=5, max_update_norm=2.5))


def test_configuration_comes_back_equal(tmp_path):
    folder = SiteFolder.create(tmp_path / "site", CONFIG)
    assert folder.config() == CONFIG
    assert folder.model == tmp_path / "site" / "model"


@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), min_size=1, max_size=30))
def test_any_name_comes_back_equal(tmp_path_factory, name):
    folder = SiteFolder.create(tmp_path_factory.mktemp("s"), SiteConfig(name=name, number=0))
    assert folder.config().name == name


def test_folder_and_key_are_for_their_owner_alone(tmp_path):
    folder = SiteFolder.create(tmp_path / "site", CONFIG)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / "keys" / "pseudonym.key").stat().st_mode) == 0o600


def test_every_site_has_a_key_of_its_own_unless_given_one(tmp_path):
    keys = [SiteFolder.create(tmp_path / str(i), CONFIG).pseudonym_key() for i in range(2)]
    assert keys[0] != keys[1]
    assert {len(k) for k in keys} == {32}
    assert SiteFolder.create(tmp_path / "given", CONFIG, pseudonym_key=b"x" * 32).pseudonym_key() == b"x" * 32


def test_second_site_in_one_folder_is_refused_and_the_first_kept(tmp_path):
    folder = SiteFolder.create(tmp_path, CONFIG)
    key = folder.pseudonym_key()
    with pytest.raises(UsageError, match="holds a site already"):
        SiteFolder.create(tmp_path, SiteConfig(name="B", number=1))
    assert (folder.config(), folder.pseudonym_key()) == (CONFIG, key)


def test_missing_configuration_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match="is no site folder") as caught:
        SiteFolder(tmp_path).config()
    assert caught.value.hint == "fednotes site init DIR"


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ('name = "A"\nnumber = -1', "number"),
        ('name = "A"\nnumber = 1\n[limits]\nmin_patients = 0', r"limits\.min_patients"),
        ('name = "A"\nnumber = 1\ncolour = "red"', "colour"),
        ('name = "A"', "number: Field required"),
        ("name = ", "not valid TOML"),
    ],
)
def test_wrong_setting_is_named(tmp_path, toml, named):
    (tmp_path / "site.toml").write_text(toml)
    with pytest.raises(UsageError, match=named):
        SiteFolder(tmp_path).config()


@pytest.mark.parametrize("key", [None, b"short"])
def test_missing_or_short_key_is_wrong_usage(tmp_path, key):
    folder = SiteFolder.create(tmp_path, CONFIG)
    path = folder.path / "keys" / "pseudonym.key"
    path.unlink()
    if key is not None:
        path.write_bytes(key)
    with pytest.raises(UsageError, match="key") as caught:
        folder.pseudonym_key()
    assert caught.value.hint == "restore it from your backup"


def test_all_that_a_site_writes_lies_in_its_folder(tmp_path):
    folder = SiteFolder.create(tmp_path / "site", CONFIG)
    places = [folder.notes, folder.corpus, folder.receipts, folder.log, folder.checkpoints("study-1")]
    assert all(p.is_relative_to(folder.path) for p in places)
    assert len(set(places)) == 5


def test_limits_are_the_strict_ones_unless_the_site_says_otherwise():
    assert SiteConfig(name="A", number=1).limits.min_patients == 11
    with pytest.raises(ValidationError):
        SiteLimits(min_patients=0)
