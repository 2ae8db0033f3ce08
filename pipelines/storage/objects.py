"""Objects in buckets, s3:// and gs://: found, read whole, and replaced only while they are what was read.

The one module that knows boto3 and google-cloud-storage. Both are optional, and imported when the first URL asks for
them; credentials and endpoints come from where those libraries look (environment, profiles, instance roles). Other
schemes go through Beam's FileSystems (pipelines/library/discover.py), which can read, but know no conditional write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import filecmp
import functools
import io
import os
import secrets
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, BinaryIO, Protocol, TypeVar, cast

from genrebeam.features.errors import ChangedMeanwhile, NotTaggable, ReadOnly, UnreadableFile, UsageError, WriteFailed

Answer = TypeVar("Answer")

_BLOCK = 1 << 20
_READS = 3  # attempts at one body: the libraries try requests again, and S3's does not try a body that broke off
_CONNECTIONS = 64  # that threads may have open at a time
_LARGEST_PUT = 5 << 30  # bytes that S3 takes in one request


@dataclasses.dataclass(frozen=True)
class Seen:
    """An object in one state.

    Attributes:
        mtime_us: when this content was written, microseconds since 1970. S3 tells whole seconds.
        state: what a conditional put names: the ETag, or generation and metageneration.
        kept: what belongs to the object besides its bytes, as a put repeats it.
    """

    size: int
    mtime_us: int
    state: str
    kept: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Found:
    """An object in a listing."""

    uri: str
    size: int
    mtime_us: int


class StoreError(Exception):
    """A store refused, or did not answer. `status` is that of HTTP, 0 where there was no answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Store(Protocol):
    """What there is of an object store. Every method raises StoreError; `name` is the object's in its bucket."""

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int, int]]:
        """Name, size and mtime_us of each object whose name begins with `prefix`."""

    def stat(self, bucket: str, name: str) -> Seen: ...

    def read(self, bucket: str, name: str, file: IO[bytes]) -> Seen:
        """Append one consistent state of the object to the file."""

    def read_range(self, bucket: str, name: str, start: int, stop: int) -> bytes: ...

    def put(self, bucket: str, name: str, path: str, over: Seen) -> Seen | None:
        """Replace the object by a file if its state is that of `over`; its state then, None where it cannot be told."""

    def write(self, bucket: str, name: str, path: str, if_absent: bool) -> None:
        """Make the object of a file, replacing what is there unless `if_absent`; status 412 where it is there."""

    def delete(self, bucket: str, name: str) -> None: ...


def is_object(uri: str) -> bool:
    """Whether a URL is of a store that this module knows."""
    return uri.partition("://")[0] in _STORES


def find(prefix: str) -> Iterator[Found]:
    """All objects whose URL begins with `prefix`, which names a bucket at least; in the order of their names.

    Raises:
        UsageError: the bucket cannot be listed, or a package is missing.
    """
    store, bucket, name = _locate(prefix)
    scheme = prefix.partition("://")[0]
    try:
        for found, size, mtime_us in store.list(bucket, name):
            if not found.endswith("/"):  # consoles leave empty objects of such names, to show folders
                yield Found(f"{scheme}://{bucket}/{found}", size, mtime_us)
    except StoreError as error:
        raise UsageError(f"{prefix}: cannot be listed ({error})") from error


def stat(uri: str) -> Seen:
    """Raises UnreadableFile, without the URL, which the caller knows; UsageError where a package is missing."""
    store, bucket, name = _locate(uri)
    try:
        return store.stat(bucket, name)
    except StoreError as error:
        raise _unreadable(error) from error


def read(uri: str, file: IO[bytes]) -> Seen:
    """Write one consistent state of an object into a seekable file; raises as `stat`."""
    store, bucket, name = _locate(uri)

    def once() -> Seen:
        file.seek(0)
        file.truncate()
        seen = store.read(bucket, name, file)
        file.flush()
        return seen

    try:
        return _tried(once)
    except StoreError as error:
        raise _unreadable(error) from error


def replace_if_unchanged(uri: str, path: str, seen: Seen) -> Seen | None:
    """Put a file in the place of an object, unless somebody replaced or removed what was read.

    Where the answer says nothing (a lost connection, a second attempt of the library that met what its first had
    done), the object itself is asked whether it is ours now.

    Returns:
        The object's new state; None where it was written and its state cannot be told.

    Raises:
        ChangedMeanwhile: it is another one by now, and stays.
        ReadOnly: it may not be written.
        NotTaggable: the store cannot do it safely.
        WriteFailed: the store refused, or could not be reached; run again.
        UsageError: a package or the credentials are missing.
    """
    store, bucket, name = _locate(uri)
    try:
        return store.put(bucket, name, path, seen)
    except StoreError as error:
        if error.status in (401, 403):
            raise ReadOnly(f"{uri}: it may not be written ({error}); left as it is") from error
        if now := _is_ours(uri, path):
            return now
        if error.status in (404, 409, 412):
            raise ChangedMeanwhile(f"{uri}: another program changed it just now; left as it is, run again") from error
        if error.status == 501:
            raise NotTaggable(f"{uri}: {error}; left as it is") from error
        raise WriteFailed(f"{uri}: {error}; run again") from error


def write(uri: str, path: str, *, if_absent: bool = False) -> None:
    """Make an object of a file, whatever is there, or only where nothing is.

    Raises:
        FileExistsError: something is there and must not be.
        OSError: the store refused, or could not be reached; the message names neither URL nor file.
        UsageError: a package or the credentials are missing.
    """
    store, bucket, name = _locate(uri)
    try:
        store.write(bucket, name, path, if_absent)
    except StoreError as error:
        if if_absent and error.status in (409, 412):
            raise FileExistsError(errno.EEXIST, "it is there already") from error
        raise _os_error(error) from error


def delete(uri: str) -> None:
    """Remove an object, if it is there; raises OSError, UsageError."""
    store, bucket, name = _locate(uri)
    try:
        store.delete(bucket, name)
    except StoreError as error:
        if error.status != 404:
            raise _os_error(error) from error


def open_object(uri: str) -> BinaryIO:
    """An object as a seekable file that asks for the parts that are read; raises OSError, UsageError."""
    store, bucket, name = _locate(uri)
    try:
        size = store.stat(bucket, name).size
    except StoreError as error:
        raise _os_error(error) from error
    raw = _Parts(lambda start, stop: _tried(lambda: store.read_range(bucket, name, start, stop)), size)
    return cast(BinaryIO, io.BufferedReader(raw, _BLOCK))


def read_range(uri: str, start: int, stop: int) -> bytes:
    """Bytes of an object; raises as `stat`."""
    store, bucket, name = _locate(uri)
    try:
        return _tried(lambda: store.read_range(bucket, name, start, stop))
    except StoreError as error:
        raise _unreadable(error) from error


def _tried(read: Callable[[], Answer]) -> Answer:
    """What a read gives; again, where there was no answer."""
    attempt = 1
    while True:
        try:
            return read()
        except StoreError as error:
            if error.status or attempt == _READS:
                raise
        attempt += 1


class _Parts(io.RawIOBase):
    """A raw file over ranges of bytes; raises OSError."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range, self._size, self._at = read_range, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        try:
            data = self._read_range(self._at, stop)
        except StoreError as error:
            raise _os_error(error) from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _os_error(error: StoreError) -> OSError:
    number = {404: errno.ENOENT, 401: errno.EACCES, 403: errno.EACCES}.get(error.status, errno.EIO)
    return OSError(number, str(error))  # Python makes it the fitting subclass


def _is_ours(uri: str, path: str) -> Seen | None:
    """The object's state if it holds exactly the bytes of a file."""
    with contextlib.suppress(UnreadableFile), tempfile.NamedTemporaryFile(prefix="genrebeam-") as there:
        if stat(uri).size == os.path.getsize(path):
            seen = read(uri, there.file)
            if filecmp.cmp(path, there.name, shallow=False):
                return seen
    return None


def _unreadable(error: StoreError) -> UnreadableFile:
    reason = {404: "no such object", 401: "it may not be read", 403: "it may not be read"}.get(error.status)
    return UnreadableFile(f"{reason} ({error})" if reason else f"cannot be fetched: {error}")


def _locate(uri: str) -> tuple[Store, str, str]:
    """Store, bucket and name. Not urllib.parse: names may hold ? and #, and are not percent-encoded."""
    scheme, _, rest = uri.partition("://")
    bucket, _, name = rest.partition("/")
    with _LOCK:
        return _STORES[scheme](), bucket, name


def _needs(uri: str, package: str, extra: str) -> UsageError:
    return UsageError(f"{uri} needs the package {package}: pip install 'genrebeam[{extra}]'")


def _microseconds(time: dt.datetime) -> int:
    return (time - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)) // dt.timedelta(microseconds=1)


class S3:
    """Amazon S3, and what speaks its language and honours If-Match on PutObject."""

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
            raise _needs("s3://", "boto3", "aws") from error
        with self._asking():
            self._client = boto3.session.Session().client("s3", config=Config(max_pool_connections=_CONNECTIONS))
        self._honest: set[str] = set()  # buckets that were seen to refuse a put whose condition does not hold

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
            for block in response["Body"].iter_chunks(_BLOCK):
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
            now = self.stat(bucket, name)  # the answer to a put does not tell the time
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
        """Stores of other makes may pass over If-Match, and would then lose what others write meanwhile.

        So a put is tried once per bucket that has to fail: over an object that is not there.
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
        return _microseconds(response["LastModified"]) // 1_000_000 * 1_000_000


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
            raise _needs("gs://", "google-cloud-storage", "gcp") from error
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
                yield blob.name, blob.size, _microseconds(blob.time_created)

    def stat(self, bucket: str, name: str) -> Seen:
        with self._asking():
            return self._seen(self._blob(bucket, name))

    def read(self, bucket: str, name: str, file: IO[bytes]) -> Seen:
        with self._asking():
            blob = self._blob(bucket, name)
            seen = self._seen(blob)  # before the download, which puts what its headers say in place of it
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
        return Seen(blob.size, _microseconds(blob.time_created), f"{blob.generation}.{blob.metageneration}", kept)


_LOCK = threading.Lock()
_STORES: dict[str, Callable[[], Store]] = {
    "s3": functools.cache(S3),
    "gs": functools.cache(Gcs),
}  # one client per process, made when first needed
