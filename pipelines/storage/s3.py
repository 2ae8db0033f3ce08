"""Amazon S3 as a `Store`. The one module that knows boto3, which is optional."""

from __future__ import annotations

import contextlib
import os
import secrets
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import IO, Any

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.storage.store import BLOCK, Seen, StoreError, microseconds, needs

_CONNECTIONS = 64  # that threads may have open at a time
_LARGEST_PUT = 5 << 30  # bytes that S3 takes in one request


class S3:
    """Amazon S3, and compatible stores that honour If-Match on PutObject."""

    _KEPT = (
        "ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "Expires",
        "Metadata", "StorageClass", "WebsiteRedirectLocation", "ServerSideEncryption", "SSEKMSKeyId",
        "BucketKeyEnabled",
    )  # fmt: skip

    def __init__(self) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise needs("s3://", "boto3", "aws") from error
        with self._asking():
            self._client = boto3.session.Session().client("s3", config=Config(max_pool_connections=_CONNECTIONS))
        self._honest: set[str] = set()  # buckets that have refused a put whose condition does not hold

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        from botocore import exceptions

        try:
            yield
        except exceptions.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            reason = error.response.get("Error", {})
            raise StoreError(status, f"{reason.get('Code')}: {reason.get('Message')}") from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise UsageError(f"s3://: {error}; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret") from error
        except (exceptions.BotoCoreError, exceptions.HTTPClientError) as error:
            raise StoreError(0, str(error)) from error

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int, int]]:
        with self._asking():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    yield found["Key"], found["Size"], self._mtime_us(found)

    def stat(self, bucket: str, name: str) -> Seen:
        with self._asking():
            return self._seen(self._client.head_object(Bucket=bucket, Key=name))

    def read(self, bucket: str, name: str, file: IO[bytes]) -> Seen:
        with self._asking():
            response = self._client.get_object(Bucket=bucket, Key=name)
            for block in response["Body"].iter_chunks(BLOCK):
                file.write(block)
            return self._seen(response)

    def put(self, bucket: str, name: str, path: str, over: Seen) -> Seen | None:
        if os.path.getsize(path) > _LARGEST_PUT:
            raise StoreError(501, "S3 takes at most 5 GB in one request")
        with self._asking():
            self._check_honesty(bucket, name)
            kept = {**over.kept, **self._tagging(bucket, name)}
            with open(path, "rb") as body:
                response = self._client.put_object(Bucket=bucket, Key=name, Body=body, IfMatch=over.state, **kept)
        with contextlib.suppress(StoreError):
            now = self.stat(bucket, name)  # the answer to a put has no time
            return now if now.state == response["ETag"] else None
        return None

    def read_range(self, bucket: str, name: str, start: int, stop: int) -> bytes:
        with self._asking():
            response = self._client.get_object(Bucket=bucket, Key=name, Range=f"bytes={start}-{stop - 1}")
            data: bytes = response["Body"].read()
            return data

    def write(self, bucket: str, name: str, path: str, if_absent: bool) -> None:
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with self._asking(), open(path, "rb") as body:
            self._client.put_object(Bucket=bucket, Key=name, Body=body, **condition)

    def delete(self, bucket: str, name: str) -> None:
        with self._asking():
            self._client.delete_object(Bucket=bucket, Key=name)

    def _check_honesty(self, bucket: str, name: str) -> None:
        """Compatible stores may ignore If-Match, and writes of others would then be lost. So one put per bucket is
        tried that has to fail: over an object that does not exist.
        """
        if bucket in self._honest:
            return
        probe = f"{name.rpartition('/')[0]}/.genrebeam-{secrets.token_hex(10)}.tmp".lstrip("/")
        try:
            with self._asking():
                self._client.put_object(
                    Bucket=bucket, Key=probe, Body=b"", IfMatch='"00000000000000000000000000000000"'
                )
        except StoreError as error:
            if error.status not in (404, 412):
                raise
            self._honest.add(bucket)
            return
        with self._asking():
            self._client.delete_object(Bucket=bucket, Key=probe)
        raise StoreError(501, "this store ignores If-Match, so what others write meanwhile could be lost")

    def _tagging(self, bucket: str, name: str) -> dict[str, str]:
        try:
            with self._asking():
                tags = self._client.get_object_tagging(Bucket=bucket, Key=name)["TagSet"]
        except StoreError as error:
            if error.status in (400, 405, 501) or "NoSuchTagSet" in str(error):  # a store, or an object, without tags
                return {}
            if error.status == 403:
                raise StoreError(403, f"its tags may not be read, and would be lost: {error}") from error
            raise
        return {"Tagging": urllib.parse.urlencode({tag["Key"]: tag["Value"] for tag in tags})} if tags else {}

    def _seen(self, response: Mapping[str, Any]) -> Seen:
        kept = {name: response[name] for name in self._KEPT if response.get(name)}
        return Seen(response["ContentLength"], self._mtime_us(response), response["ETag"], kept)

    def _mtime_us(self, response: Mapping[str, Any]) -> int:
        """Cut to the second: listings of some stores have fractions, and the headers of an object never do."""
        return microseconds(response["LastModified"]) // 1_000_000 * 1_000_000
