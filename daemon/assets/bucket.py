"""Any S3-compatible bucket.

The signatures are obstore's, which reckons them without a connection of its own; the bytes go through the HTTP client
that everything else uses, so that an upload can be cancelled and no piece of it is held.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

import httpx
import obstore
from obstore.store import S3Store

from daemon.assets.fetch import Fetched
from daemon.assets.remote import IMMUTABLE, Remote
from daemon.assets.store import Place, StoreError
from daemon.config_assets import AssetsSetting
from daemon.ledger.assets import Copied
from daemon.site.media import disposition, elsewhere

if TYPE_CHECKING:
    from obstore.store import S3Credential

SIGNED_FOR = timedelta(hours=1)


class BucketStore(Remote):
    """Any S3-compatible bucket. Objects are named by their digest, so the same bytes are there once."""

    kind = "s3"

    def __init__(self, setting: AssetsSetting) -> None:
        super().__init__()
        secret = setting.s3_secret_access_key
        endpoint = setting.s3_endpoint_url
        self.name = f"The bucket {setting.s3_bucket}"
        self.hint = "Check S3_ENDPOINT_URL, S3_BUCKET, S3_REGION and the keys."
        self.id = f"s3:{urlsplit(endpoint or '').netloc or 'aws'}/{setting.s3_bucket}/{setting.s3_prefix}"
        self._prefix = setting.s3_prefix
        self._public_url = setting.s3_public_url
        # Said in full: what is left out, obstore would look up in AWS's own variables.
        known: S3Credential = {
            "access_key_id": setting.s3_access_key_id,
            "secret_access_key": secret.get_secret_value() if secret else "",
            "token": None,
            "expires_at": None,
        }
        self._signer = S3Store(
            setting.s3_bucket,
            region=setting.s3_region,
            endpoint=_endpoint(setting),
            virtual_hosted_style_request=not setting.s3_path_style,
            client_options={"allow_http": True},
            credential_provider=lambda: known,
        )

    async def put(self, file: Fetched, place: Place) -> Copied:
        key = f"{self._prefix}{file.digest[:2]}/{file.digest}{place.extension}"
        headers = {
            "Content-Type": elsewhere(file.media_type),
            "Cache-Control": IMMUTABLE,
            "Content-Disposition": disposition(place.name, file.media_type),
        }
        answer = await self.upload("PUT", self._signed("PUT", key), file, headers)
        if not answer.is_success:
            raise self._explained(answer)
        url = f"{self._public_url}/{quote(key)}" if self._public_url else None
        return Copied(file.digest, self.id, key, url, file.media_type, file.size_bytes)

    def open(self, copy: Copied, start: int, length: int):  # type: ignore[no-untyped-def]
        return self.stream(self._signed("GET", copy.location), start, length)

    async def remove(self, copy: Copied) -> None:
        answer = await self.send("DELETE", self._signed("DELETE", copy.location))
        if not answer.is_success and answer.status_code != 404:
            raise self._explained(answer)

    async def check(self) -> None:
        answer = await self.send("GET", self._signed("GET", f"{self._prefix}doctor"))
        if not answer.is_success and not (answer.status_code == 404 and "NoSuchBucket" not in answer.text):
            raise self._explained(answer)

    def _signed(self, method: Literal["GET", "PUT", "DELETE"], key: str) -> str:
        return obstore.sign(self._signer, method, key, SIGNED_FOR)

    def _explained(self, answer: httpx.Response) -> StoreError:
        if "NoSuchBucket" in answer.text:
            return StoreError(f"{self.name} does not exist.", "Make it, or set S3_BUCKET to one that does.")
        if answer.is_redirect:
            return StoreError(
                f"{self.name} is in another region.", "Set S3_REGION to the region it was made in."
            )
        return self.refused(answer)


def _endpoint(setting: AssetsSetting) -> str:
    """The address that objects lie under; without path style the bucket is part of the host."""
    endpoint = setting.s3_endpoint_url or f"https://s3.{setting.s3_region}.amazonaws.com"
    if setting.s3_path_style:
        return endpoint
    scheme, _, rest = endpoint.partition("://")
    return endpoint if rest.startswith(f"{setting.s3_bucket}.") else f"{scheme}://{setting.s3_bucket}.{rest}"
