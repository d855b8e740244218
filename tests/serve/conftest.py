"""A site over the made app, and a server over it."""

from __future__ import annotations

import pytest
from made_site import made_site, running


@pytest.fixture
def site(tmp_path):
    return made_site(tmp_path)


@pytest.fixture
def server(site):
    with running(site) as server:
        yield server
