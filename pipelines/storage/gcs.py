"""Google Cloud Storage as a `Store`. The one module that knows google-cloud-storage, which is optional."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.storage.store import Seen, StoreError, microseconds, needs


class Gcs:
    """Google Cloud Storage. Its conditions cover metadata too."""

    _KEPT = (
        "content_type", "cache_control", "content_disposition", "content_encoding", "content_language",
        "metadata", "storage_class", "custom_time",
    )  # fmt: skip
    _GIVE_UP_S = 60.0  # the library tries again until then

    def __init__(self) -> None:
        try:
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud import storage  # type: ignore[attr-defined]  # a namespace package, which mypy cannot see into
            from google.cloud.storage.retry import DEFAULT_RETRY
        except ImportError as error:
            raise needs("gs://", "google-cloud-storage", "gcp") from error
        try:
            self._client = storage.Client()
        except (DefaultCredentialsError, OSError):  # OSError: credentials, but no project, which is not needed
            self._client = storage.Client.create_anonymous_client()  # public buckets can be read
        self._retry = DEFAULT_RETRY.with_timeout(self._GIVE_UP_S)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
        from requests.exceptions import RequestException

        try:
            yield
        except GoogleAPICallError as error:
            raise StoreError(int(error.code or 0), error.message.rpartition(": ")[2]) from error
        except InvalidResponse as error:
            raise StoreError(int(error.response.status_code), str(error)) from error
        except GoogleAuthError as error:
            raise UsageError(f"gs://: {error}; `gcloud auth application-default login` gives credentials") from error
        except (RetryError, DataCorruption, RequestException, ConnectionError, TimeoutError) as error:
            raise StoreError(0, str(error)) from error

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int, int]]:
        with self._asking():
            for blob in self._client.list_blobs(bucket, prefix=prefix, retry=self._retry):
                yield blob.name, blob.size, microseconds(blob.time_created)

    def stat(self, bucket: str, name: str) -> Seen:
        with self._asking():
            return self._seen(self._blob(bucket, name))

    def read(self, bucket: str, name: str, file: IO[bytes]) -> Seen:
        with self._asking():
            blob = self._blob(bucket, name)
            seen = self._seen(blob)  # before the download, which overwrites these attributes
            blob.download_to_file(  # raw: an object that is stored compressed is not unpacked on the way
                file, if_generation_match=blob.generation, raw_download=True, checksum="crc32c", retry=self._retry
            )
            return seen

    def put(self, bucket: str, name: str, path: str, over: Seen) -> Seen | None:
        kept = dict(over.kept)
        generation, metageneration = map(int, over.state.split("."))
        with self._asking():
            blob = self._client.bucket(bucket).blob(name, kms_key_name=kept.pop("kms_key_name", None))
            for attribute, value in kept.items():
                setattr(blob, attribute, value)
            blob.upload_from_filename(
                path,
                content_type=over.kept.get("content_type"),
                if_generation_match=generation,
                if_metageneration_match=metageneration,
                checksum="crc32c",
                retry=self._retry,
            )
            return self._seen(blob)

    def read_range(self, bucket: str, name: str, start: int, stop: int) -> bytes:
        with self._asking():
            blob = self._client.bucket(bucket).blob(name)
            data: bytes = blob.download_as_bytes(
                start=start, end=stop - 1, raw_download=True, checksum=None, retry=self._retry
            )
            return data

    def write(self, bucket: str, name: str, path: str, if_absent: bool) -> None:
        with self._asking():
            blob = self._client.bucket(bucket).blob(name)
            condition = {"if_generation_match": 0} if if_absent else {}
            blob.upload_from_filename(path, checksum="crc32c", retry=self._retry, **condition)

    def delete(self, bucket: str, name: str) -> None:
        with self._asking():
            self._client.bucket(bucket).blob(name).delete(retry=self._retry)

    def _blob(self, bucket: str, name: str) -> Any:
        blob = self._client.bucket(bucket).blob(name)
        blob.reload(retry=self._retry)
        return blob

    def _seen(self, blob: Any) -> Seen:
        kept = {name: value for name in self._KEPT if (value := getattr(blob, name))}
        if blob.kms_key_name:
            kept["kms_key_name"] = blob.kms_key_name.partition("/cryptoKeyVersions/")[0]
        # Of the content, not of the metadata (`updated`), which may be edited without a change of the sound.
        return Seen(blob.size, microseconds(blob.time_created), f"{blob.generation}.{blob.metageneration}", kept)
