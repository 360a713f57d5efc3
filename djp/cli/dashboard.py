"""`djp dashboard`: starts the Streamlit app of dashboards/, a client of the gateway, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from importlib.util import find_spec
from tempfile import TemporaryDirectory

from djp.catalogue_files import data_dir
from djp.cli.exits import Exit
from djp.cli.session import CommandError
from djp.mesh.errors import FailedPrecondition

APP = data_dir() / "dashboards" / "observability_app.py"


async def serve_dashboard(gateway: str | None, port: int | None) -> int:
    """Serve the dashboard of that gateway; without one, of a mesh in this process that lives as long.

    Raises FailedPrecondition when Streamlit is not installed, CommandError when the data folder is in use or the app
    did not come up.
    """
    if find_spec("streamlit") is None:
        raise FailedPrecondition(
            "the dashboard needs Streamlit; install it with: pip install 'djp-workflow[dashboards]'"
        )
    async with AsyncExitStack() as stack:
        if not gateway:
            from djp.standalone import standalone_mesh

            folder = stack.enter_context(TemporaryDirectory(prefix="djp-"))  # short: a socket's path may have 103 bytes
            try:
                gateway = await stack.enter_async_context(standalone_mesh(f"unix:{folder}/gateway.sock"))
            except FailedPrecondition as error:
                raise CommandError(error, Exit.UNAVAILABLE) from error
        return await _serve(gateway, port)


async def _serve(gateway: str, port: int | None) -> int:
    command = [sys.executable, "-m", "streamlit", "run", str(APP), *(["--server.port", str(port)] if port else [])]
    streamlit = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "DJP_GATEWAY": gateway},
        start_new_session=True,  # Ctrl-C is for us: Streamlit would tell it with a traceback
    )
    try:
        code = await streamlit.wait()
    finally:
        if streamlit.returncode is None:
            streamlit.kill()  # it keeps nothing, and asked to stop it hangs where nobody reads what it says
            await streamlit.wait()
    raise CommandError(FailedPrecondition(f"the dashboard ended with {code}; what it said stands above"), Exit.PROBLEM)
