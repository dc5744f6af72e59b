"""Installation: what the server cannot run beside is said before it starts."""

import pytest

from footfall.errors import NotReadyError
from footfall_serving import install


def test_a_numpy_that_crashes_the_servers_stub_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(install, "version", lambda package: "2.3.1")
    with pytest.raises(NotReadyError, match=r"stub crashes with numpy 2\.3\.1; run: pip install 'numpy<2'"):
        install.server_home()
