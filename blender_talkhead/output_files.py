"""The files of one job: written under temporary names beside the final ones, renamed together, or none at all."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from pathlib import Path
from types import TracebackType

from .contract.errors import OutputError


class OutputFiles:
    """Collects the files that a job writes; a context manager.

    Leaving the block without `commit()` removes everything, the folders made for it too.
    """

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex[:10]
        self._files: list[tuple[Path, Path]] = []
        """(temporary, final), renamed in this order."""
        self._scratch: list[Path] = []
        self._made_folders: list[Path] = []

    def __enter__(self) -> OutputFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for temporary, _ in self._files:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        for folder in self._scratch:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in reversed(self._made_folders):
            with contextlib.suppress(OSError):  # not empty: it holds results
                folder.rmdir()

    def reserve(self, final: Path) -> Path:
        """Return the temporary name to write a file under; its folder is made, and tried by creating the file.

        Raises:
            OutputError: the folder cannot be made or written, or `final` is a folder.
        """
        if final.is_dir():
            raise OutputError(f"cannot write {final}: it is a folder")
        temporary = final.with_name(f".{final.stem}.{self._token}.partial{final.suffix}")
        self._make_folder(final.parent)
        self._files.append((temporary, final))
        try:
            temporary.touch()
        except OSError as error:
            raise OutputError(f"cannot write into {final.parent}: {error.strerror or error}") from error
        return temporary

    def scratch_folder(self, parent: Path) -> Path:
        """Return a new folder for intermediate data, removed at the end in any case.

        Raises:
            OutputError: it cannot be made.
        """
        self._make_folder(parent)
        folder = parent / f".talkhead.{self._token}.{len(self._scratch)}.partial"
        try:
            folder.mkdir()
        except OSError as error:
            raise OutputError(f"cannot write into {parent}: {error.strerror or error}") from error
        self._scratch.append(folder)
        return folder

    def commit(self) -> None:
        """Give all files their final names; when one cannot be renamed, none is.

        Raises:
            OutputError: a file is missing or empty, or cannot be renamed.
        """
        for temporary, final in self._files:
            if not temporary.is_file() or temporary.stat().st_size == 0:
                raise OutputError(f"{final} was not written; is the disk full?")
        renamed: list[tuple[Path, Path | None]] = []
        try:
            for temporary, final in self._files:
                replaced = self._step_aside(final)
                renamed.append((final, replaced))
                temporary.rename(final)
        except OSError as error:
            for final, replaced in reversed(renamed):
                with contextlib.suppress(OSError):
                    final.unlink(missing_ok=True)
                    if replaced is not None:
                        replaced.rename(final)
            raise OutputError(f"cannot write {final}: {error.strerror or error}") from error
        for _, replaced in renamed:
            if replaced is not None:
                with contextlib.suppress(OSError):
                    replaced.unlink()
        self._files.clear()

    def _step_aside(self, final: Path) -> Path | None:
        if not final.exists():
            return None
        replaced = final.with_name(f".{final.name}.{self._token}.replaced")
        final.rename(replaced)
        return replaced

    def _make_folder(self, folder: Path) -> None:
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        self._made_folders.extend(reversed(missing))
