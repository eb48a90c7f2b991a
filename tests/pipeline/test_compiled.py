"""Compiled code lies in the user's own cache."""

import os

import pytest

from pipeline.compiled import keep_compiled_private


@pytest.fixture
def unset(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    return monkeypatch


def test_the_cache_is_the_users_own(unset, tmp_path):
    """Also where that folder is not there yet."""
    unset.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keep_compiled_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache" / "bindcache-compiled")


def test_what_the_user_or_a_job_says_stays(unset, tmp_path):
    """A job of a cluster has a cache of its own."""
    unset.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    keep_compiled_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
