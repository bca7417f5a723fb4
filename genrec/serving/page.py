"""The web page at /: static files of this folder, and the run's report."""

import asyncio
import os
import stat
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from .deps import CallerDep
from .errors import not_found
from .service import Service

FOLDER = Path(__file__).parent / "page"
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'"
POLICY = (  # the report, which the page shows in a frame, brings its styles with it
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'"
)


def add(app: FastAPI, service: Service) -> None:
    """Add the page and the report to an application."""

    async def index() -> Response:
        """The page."""
        return FileResponse(FOLDER / "index.html", headers={"Content-Security-Policy": POLICY})

    async def report(caller: CallerDep) -> Response:
        """The run's report, as `genrec evaluate` wrote it; it shows histories of users."""
        caller.check(None, None)
        html = await asyncio.to_thread(regular_file, Path(service.config.run) / "report.html")
        if html is None:
            raise not_found("this run has no report yet: `genrec evaluate RUN` writes it", "no_report")
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    app.add_api_route("/", index, name="page", include_in_schema=False, response_class=Response)
    app.add_api_route("/report", report, name="report", include_in_schema=False, response_class=Response)
    app.mount("/page", StaticFiles(directory=FOLDER), name="static")


def regular_file(path: Path) -> bytes | None:
    """The bytes of a file of a run; None if there is none, or only a link to a file elsewhere."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(handle).st_mode) else None
