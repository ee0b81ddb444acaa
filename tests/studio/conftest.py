"""One studio for the tests of a session, with the embedded model, on a free port."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from mvguide.config.studio_options import StudioConfig


class Served:
    """A studio that runs.

    Args:
        address: of its page.
        out: folder of its results.
    """

    def __init__(self, address: str, out: Path) -> None:
        self.address, self.out = address, out


@contextmanager
def serve(config: StudioConfig) -> Iterator[Served]:
    """Run a studio in a thread."""
    import uvicorn

    from mvguide.studio.serving import HOST, listen, studio_app

    with pytest.MonkeyPatch.context() as patch, listen(0) as listening:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
            patch.setenv(name, "")  # put back at the end
        with studio_app(config) as app:
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            while not server.started:
                time.sleep(0.05)
            yield Served(f"http://{HOST}:{listening.getsockname()[1]}/", Path(config.out))
            server.should_exit = True
            thread.join(timeout=10)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A studio with small limits: 1 MiB, 0.1 million pixels, 20 frames."""
    out = tmp_path_factory.mktemp("studio") / "results"
    with serve(StudioConfig(out=str(out), most_mib=1, most_megapixels=0.1, most_frames=20, quiet=True)) as found:
        yield found
