"""A stand-in for Vercel Blob, over real HTTP: what its SDK asks for, and no more."""

import json
from dataclasses import dataclass, field
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "vercel_blob_rw_Store123_secretsecret"


@dataclass
class BlobServer:
    """`blobs`: what it holds, by address. `base`: its own address, set once it is known."""

    base: str = ""
    blobs: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    status: int = 200

    @property
    def app(self) -> Starlette:
        routes = [
            Route("/api/", self._put, methods=["PUT"]),
            Route("/api/", self._list, methods=["GET"]),
            Route("/api/delete", self._delete, methods=["POST"]),
            Route("/public/{path:path}", self._get, methods=["GET"]),
        ]
        return Starlette(routes=routes)

    def _refusal(self, request: Request) -> Response | None:
        if self.status != 200:
            return JSONResponse({"error": {"code": "service_unavailable"}}, self.status)
        known = request.headers.get("authorization") == f"Bearer {TOKEN}"
        fits = (
            known and request.headers.get("x-api-version") and request.headers.get("x-vercel-blob-store-id")
        )
        return None if fits else JSONResponse({"error": {"code": "forbidden"}}, 403)

    async def _put(self, request: Request) -> Response:
        body = await request.body()
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        assert request.headers["x-vercel-blob-access"] == "public"
        assert request.headers["content-length"] == str(len(body))
        pathname = request.query_params["pathname"]
        url = f"{self.base}/public/{pathname}"
        self.puts.append(pathname)
        self.blobs[url] = (body, dict(request.headers))
        return JSONResponse({"url": url, "pathname": pathname})

    async def _list(self, request: Request) -> Response:
        return self._refusal(request) or JSONResponse({"blobs": []})

    async def _delete(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        for url in json.loads(await request.body())["urls"]:
            self.blobs.pop(url, None)
        return JSONResponse({})

    async def _get(self, request: Request) -> Response:
        found = self.blobs.get(f"{self.base}/public/{unquote(request.path_params['path'])}")
        if found is None:
            return Response(status_code=404)
        return Response(found[0], media_type=found[1]["x-content-type"])
