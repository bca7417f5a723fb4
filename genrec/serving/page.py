"""The web page at /: static files of this folder, and the run's report."""

from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles

from .errors import not_found
from .service import Service

FOLDER = Path(__file__).parent / "page"
POLICY = (  # the report, which the page shows in a frame, brings its styles with it
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'"
)


def add(app: FastAPI, service: Service) -> None:
    """Add the page and the report to an application."""

    async def index() -> Response:
        """The page."""
        return FileResponse(FOLDER / "index.html", headers={"Content-Security-Policy": POLICY})

    async def report(request: Request) -> Response:
        """The run's report, as `genrec evaluate` wrote it; it shows histories of users."""
        request.state.caller.check(None, None)
        file = Path(service.config.run) / "report.html"
        if not file.is_file():
            raise not_found("this run has no report yet: `genrec evaluate RUN` writes it", "no_report")
        return HTMLResponse(file.read_text(encoding="utf-8"))

    app.add_api_route("/", index, name="page", include_in_schema=False, response_class=Response)
    app.add_api_route("/report", report, name="report", include_in_schema=False, response_class=Response)
    app.mount("/page", StaticFiles(directory=FOLDER), name="static")
