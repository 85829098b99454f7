"""Files from the network into caches: presets of the Hugging Face Hub, and single files such as checkpoints.

What is in a cache is used without any request. What is not there is asked for once, with a short timeout, so that a
dead network costs seconds. Nothing takes its name in a cache before it is whole, and nothing is used before its
checksum was compared.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from keras_regpose.files import disk_full, is_disk_full, sha256
from keras_regpose.hub.preset_files import PRESET_FILES, NewerFormatError, PresetError, PresetFolder
from keras_regpose.progress import progress_bar, progress_shown

_TIMEOUT = 4  # Seconds without a byte after which a server is taken for dead, or a download for cut.
ANOTHER_DISK = "set KERAS_REGPOSE_HOME to a folder of another disk"
_PATIENCE, _SLOWEST = 30, 2000  # Seconds after which fewer bytes a second count as a failure.
_SLOW = f"it sends less than {_SLOWEST} bytes a second"
_RETRIES = 3  # Of a download that was cut, in a row without a byte.


def cache_home() -> Path:
    """Returns the folder of this package's cache: KERAS_REGPOSE_HOME, or keras_regpose in the user's cache folder."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return Path(os.environ.get("KERAS_REGPOSE_HOME") or caches / "keras_regpose").expanduser()
    except RuntimeError as error:
        raise OSError(f"There is no folder for the cache: set HOME or KERAS_REGPOSE_HOME ({error})") from error


def hub_preset(
    repo_id: str, revision: str | None = None, refresh: bool = False, expected: str | None = None
) -> PresetFolder:
    """Returns a preset of the Hub, downloaded unless it is in the Hub's cache.

    Args:
        repo_id: str. "org/name".
        revision: str or None. Branch, tag or commit; None is the main branch.
        refresh: bool. Whether to ask the Hub for the newest commit of the revision, even if one is cached.
        expected: str or None. SHA-256 of the `preset.json` that is expected; it lists those of the other files.

    Returns:
        `PresetFolder` in the cache, whose files were compared with their checksums.

    Raises:
        ConnectionError: If the Hub cannot be reached, or fails.
        PermissionError: If the repository is not shown to this user.
        FileNotFoundError: If there is no such repository or revision.
        PresetError: If it is no preset, damaged, or of a newer format.
    """
    folder = None if refresh else cached_hub_preset(repo_id, revision, expected)
    if folder is not None:
        return folder
    with hub_access(repo_id, revision):
        path = _download_snapshot(repo_id, revision)
    folder = intact_preset(path, expected)
    if folder is None:
        _forget(path)
        what = "what was downloaded differs from its checksums, and was removed"
        advice = "Try again; if it stays so, tell the owner of the repository"
        raise PresetError(f"hf://{repo_id} at {path.name[:10]} is damaged: {what}. {advice}")
    return folder


def cached_hub_preset(repo_id: str, revision: str | None = None, expected: str | None = None) -> PresetFolder | None:
    """Returns a preset in the Hub's cache, or None where it is not whole there. Makes no request."""
    import huggingface_hub

    path = huggingface_hub.try_to_load_from_cache(repo_id, "preset.json", revision=revision)
    return intact_preset(Path(path).parent, expected) if isinstance(path, str) else None


def _download_snapshot(repo_id, revision):
    """Returns the path of the downloaded folder, whose files are not compared yet."""
    import huggingface_hub

    # The answer to this one request decides what is wrong, if anything is: the client's downloads repeat a failed
    # request for 23 seconds, and confuse "unreachable" with "absent".
    api = huggingface_hub.HfApi(library_name="keras_regpose")
    info = _in_time(lambda: api.model_info(repo_id, revision=revision, timeout=_TIMEOUT))
    names = {file.rfilename for file in info.siblings}
    if "preset.json" not in names:
        advice = f'If it is a Keras model, keras.saving.load_model("hf://{repo_id}") opens it'
        raise PresetError(f"hf://{repo_id} is not a preset: it has no preset.json. {advice}")

    options = {"library_name": "keras_regpose", "etag_timeout": _TIMEOUT}
    path = huggingface_hub.snapshot_download(repo_id, revision=info.sha, allow_patterns=[*PRESET_FILES], **options)
    # Last, so that the revision's name never points to a commit whose files are not all there.
    if revision != info.sha:
        huggingface_hub.hf_hub_download(repo_id, "preset.json", revision=revision, **options)
    return Path(path)


def intact_preset(path: Path, expected: str | None = None) -> PresetFolder | None:
    """Returns the preset in a folder of a cache, or None where there is none whose files are all there and intact.

    They are compared with their checksums, and removed if they differ.

    Args:
        path: Path of the folder.
        expected: str or None. SHA-256 that the `preset.json` itself must have.

    Raises:
        NewerFormatError: If it was written by a newer version of this package.
    """
    try:
        folder = PresetFolder.open(path)
    except NewerFormatError:
        raise
    except (PresetError, OSError):  # a download that was interrupted
        return None
    if folder.damaged_files() or expected not in (None, sha256(path / "preset.json")):
        _forget(path)
        return None
    return folder


def built_preset(path: Path) -> PresetFolder | None:
    """Returns the preset that was built in a folder before, or None where there is none that this version reads."""
    try:
        return intact_preset(path)
    except NewerFormatError:  # it is built again
        return None


def _forget(folder):
    """Removes a damaged download: the Hub's client never looks at the content of what it has."""
    for name in PRESET_FILES:
        with contextlib.suppress(OSError):
            (folder / name).resolve().unlink(missing_ok=True)
        (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def hub_access(repo_id: str, revision: str | None = None, writing: bool = False):
    """Turns the errors of the Hub's client into one sentence each, which says what to do."""
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]
    from huggingface_hub.utils import disable_progress_bars

    if not progress_shown():
        disable_progress_bars()
    try:
        yield
    except (OSError, HTTPError, RuntimeError, LookupError, TypeError, AttributeError, json.JSONDecodeError) as error:
        if getattr(error, "filename", None) and not is_disk_full(error):
            raise  # of this machine's files
        raise _explained(error, repo_id, revision, writing) from error


def _explained(error, repo_id, revision, writing):
    from huggingface_hub import constants, errors

    hub, where = constants.ENDPOINT, f"{repo_id} on {constants.ENDPOINT}"
    login = "run `hf auth login`, or set HF_TOKEN"
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    if is_disk_full(error):
        return disk_full(Path(constants.HF_HUB_CACHE), "set HF_HOME to a folder of another disk")
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        wanted = f"{repo_id}@{revision}" if revision else repo_id
        lack = "so nothing is published" if writing else f"and {wanted} is not in the cache ({constants.HF_HUB_CACHE})"
        return ConnectionError(f"HF_HUB_OFFLINE is set, {lack}. Unset it to go online")
    answered = next((cause for cause in causes if isinstance(cause, errors.HfHubHTTPError)), None)
    if answered is None:
        reason = " ".join(str(causes[-1]).split()) or type(causes[-1]).__name__
        advice = "Check the connection, proxies and HF_ENDPOINT"
        return ConnectionError(f"{hub} cannot be reached for {repo_id} ({reason}). {advice}")
    status = answered.response.status_code
    if isinstance(answered, errors.GatedRepoError):
        return PermissionError(f"{where} is gated. Ask for access at {hub}/{repo_id}, then {login}")
    if status in (401, 403) and writing:
        return PermissionError(f"You may not write to {where} ({status}): {login}, with a token that may")
    if status in (401, 403):
        why = "it is private, or there is none. Check the name, and"
        return PermissionError(f"{where} is not shown to you ({status}): {why} {login}, with a token that may read it")
    if isinstance(answered, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{where} has no revision {revision!r}. There are those of {hub}/{repo_id}/tree/main")
    if status == 404:
        return FileNotFoundError(f"There is no {where}. Check the name; if it is private, log in with `hf auth login`")
    if status == 429:
        wait = answered.response.headers.get("Retry-After")
        later = f"in {wait} seconds" if wait else "in some minutes"
        return ConnectionError(f"{hub} received too many requests from here (429). Try again {later}, or {login}")
    nothing = " Nothing was published." if writing else ""
    return ConnectionError(f"{hub} failed for {repo_id} ({status}).{nothing} Try again later")


def download_file(url: str, target: Path, sha256_prefix: str, label: str) -> None:
    """Downloads a file, going on where an interrupted download stopped.

    Args:
        url: str. http or https.
        target: Path. What has arrived is in `<target>.part` until it is whole and its checksum was compared.
        sha256_prefix: str. First hexadecimal digits of the file's SHA-256.
        label: str. What the progress bar shows.

    Raises:
        ConnectionError: If the server cannot be reached, fails, or the connection is lost too often.
        FileNotFoundError: If the server has no such file.
        PresetError: If the file is another one than expected.
        OSError: If it cannot be written; `errno` is ENOSPC if the disk is full.
    """
    if target.is_file() and sha256(target).startswith(sha256_prefix):
        return
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        resumed = part.exists()
        _transfer(url, part, label)
        digest = sha256(part)
        if digest.startswith(sha256_prefix):
            os.replace(part, target)
            return
        part.unlink()
        if not resumed:  # A part of an earlier, other file explains it once.
            begins = f"its SHA-256 begins with {digest[: len(sha256_prefix)]} instead of {sha256_prefix}"
            raise PresetError(
                f"{url} is damaged or was exchanged: {begins}, so it was removed. Try again, or from another network"
            )


def _transfer(url, part, label):
    received, failures = False, 0
    with progress_bar(desc=label, unit="B", unit_scale=True, disable=None) as bar:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                if _receive(url, part, before, bar):
                    return
                reason = "the connection was cut"
            except urllib.error.HTTPError as error:
                if error.code == 416 and before:  # The part is longer than the file.
                    part.unlink()
                    continue
                if error.code == 404:
                    raise FileNotFoundError(f"There is no {url}") from error
                later = error.headers.get("Retry-After")
                hint = f"in {later} seconds" if later else "later"
                raise ConnectionError(f"{url} answered {error.code} ({error.reason}). Try again {hint}") from error
            except (OSError, http.client.HTTPException) as error:
                if is_disk_full(error):
                    raise disk_full(part.parent, ANOTHER_DISK) from error
                if isinstance(error, PermissionError):
                    raise
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            size = part.stat().st_size if part.exists() else 0
            received = received or size > before
            failures = 0 if size > before and reason != _SLOW else failures + 1
            if not received:
                raise ConnectionError(f"{url} cannot be reached ({reason}). Check the connection and proxies")
            if failures > _RETRIES:
                raise ConnectionError(f"{url} broke off ({reason}). Run it again: it goes on after {size / 1e6:.1f} MB")
            time.sleep(min(1, failures))


def _receive(url, part, position, bar):
    """Appends to a part what the server sends; returns whether the file is whole."""
    headers = {"User-Agent": "keras_regpose", "Accept-Encoding": "identity"}
    if position:
        headers["Range"] = f"bytes={position}-"
    request = urllib.request.Request(url, headers=headers)
    with _in_time(lambda: urllib.request.urlopen(request, timeout=_TIMEOUT)) as response:
        resumes = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {position}-")
        position = position if resumes else 0
        length = response.headers.get("Content-Length")
        total = position + int(length) if length else None
        if total and total - position > shutil.disk_usage(part.parent).free:
            raise disk_full(part.parent, ANOTHER_DISK)
        bar.total, bar.n = total, position
        with open(part, "ab" if resumes else "wb") as file:
            begun = time.monotonic()
            while chunk := response.read1(1 << 18):
                file.write(chunk)
                bar.update(len(chunk))
                if (seconds := time.monotonic() - begun) > _PATIENCE and file.tell() - position < seconds * _SLOWEST:
                    raise TimeoutError(_SLOW)
    return total is None or part.stat().st_size >= total


def _in_time(request):
    """Returns what a request returns. Timeouts of sockets count for each address of a host, and not for its name."""
    answer = concurrent.futures.Future()

    def work():
        try:
            answer.set_result(request())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()  # which those of an executor are not
    if not concurrent.futures.wait([answer], _TIMEOUT + 1).done:
        raise TimeoutError(f"no answer in {_TIMEOUT + 1} seconds")
    return answer.result()
