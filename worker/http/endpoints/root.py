"""`GET /`: what this is, and where everything else is."""

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from worker.core.version import version
from worker.http.json import JsonResponse
from worker.http.schemas import BASE

NAME = "Embarq"
LINKS = {
    "jobs": f"{BASE}/jobs",
    "definitions": f"{BASE}/definitions",
    "queues": f"{BASE}/queues",
    "schedules": f"{BASE}/schedules",
    "workers": "/health/workers",
    "health": "/health/ready",
}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>body {{ font: 16px/1.6 system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem }}</style>
<h1>{name} <small>{version}</small></h1>
<ul>
{links}
</ul>
</html>
"""


async def root(request: Request) -> Response:
    """`GET /`: JSON, or a page for those who ask for one."""
    prefix = request.scope.get("root_path", "")  # of an application that ours is mounted in
    links = {name: prefix + path for name, path in LINKS.items()}
    if "text/html" not in request.headers.get("Accept", ""):
        return JsonResponse({"name": NAME, "version": version(), "links": links}, headers={"Vary": "Accept"})
    shown = "\n".join(
        [f'<li><a href="{escape(to)}">{name}</a> <code>{escape(to)}</code></li>' for name, to in links.items()]
    )
    page = PAGE.format(name=NAME, version=escape(version()), links=shown)
    return HTMLResponse(page, headers={"Vary": "Accept"})
